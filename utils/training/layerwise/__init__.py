"""Layers one at a time: feature maps, least squares, and the choice of input channels."""
