"""Channel groups, physical slicing, and MAC and parameter counts of tf_keras models."""

from secateurs.utils.graph.counting import LayerCount, ModelCount, count

__all__ = ['LayerCount', 'ModelCount', 'count']
