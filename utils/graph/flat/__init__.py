"""A model as a flat list of layer calls, cuts through it, and copies of its layers."""
