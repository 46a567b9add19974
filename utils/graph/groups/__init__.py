"""Which channels of a model go together: rules run over all layers, coupled channels in groups."""
