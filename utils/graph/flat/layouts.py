"""Which axis of a tensor holds the channels of a layer."""

from __future__ import annotations

import tf_keras as keras


def channel_axis(layer: keras.layers.Layer, rank: int) -> int:
  """Index of the axis, in 0..rank-1, that `layer` takes for the channels."""
  if getattr(layer, 'data_format', None) == 'channels_first' and rank > 2:
    return 1
  return rank - 1
