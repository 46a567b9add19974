"""Weights, checkpoints and twins of Keras models."""
