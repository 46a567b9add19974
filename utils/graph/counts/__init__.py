"""MACs and parameters of a model, layer by layer."""
