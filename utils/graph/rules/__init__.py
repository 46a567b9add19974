"""One rule for each family of layers: how channels pass through it and how it shrinks."""
