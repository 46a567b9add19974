"""Files of a model: how each is written, checked against the model, and weighed."""
