"""Places inside of kernels that a penalty empties without a slice: shapes and kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tf_keras as keras

from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.models.weights import leaf_layers

L = keras.layers
SHAPES, KERNELS = WITHIN = ('shapes', 'kernels')

_CONVOLUTIONS = (L.Conv1D, L.Conv2D, L.Conv3D)  # The transposed ones are subclasses.
_TRANSPOSED = (L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)


def place_axes(layer: keras.layers.Layer, kind: str) -> tuple[int, ...]:
  """Axes of a layer's `kernel` whose places are groups; empty where the layer has none of the kind.

  Args:
    layer: of a convolution [window, inputs, filters], a transposed one [window, filters, inputs], or
      Dense [inputs, units].
    kind: `shapes` (one position over all filters; Wen et al. 2016), or `kernels` (the window with which
      one filter reads one channel; of Dense each would be one weight).
  """
  convolves = isinstance(layer, _CONVOLUTIONS)
  if not convolves and (type(layer) is not L.Dense or kind == KERNELS):
    return ()
  rank = layer.kernel.shape.rank
  if kind == KERNELS:
    return rank - 2, rank - 1
  filters = rank - 2 if isinstance(layer, _TRANSPOSED) else rank - 1
  return tuple(axis for axis in range(rank) if axis != filters)


def zero_places(model: keras.Model, kinds: Sequence[str]) -> dict[str, float]:
  """Fraction of the places that are zero over all layers, of those of the kinds that are in WITHIN."""
  fractions = {}
  for kind in (one for one in WITHIN if one in kinds):
    found = [_nonzero(layer, axes).reshape(-1) for layer, axes in _having(model, kind)]
    fractions[kind] = 1.0 - float(np.concatenate(found).mean()) if found else 0.0
  return fractions


def within_masks(model: keras.Model, kinds: Sequence[str]) -> Masks | None:
  """Masks that keep zero positions (`shapes`) and zero kernels (`kernels`) at zero.

  None where neither kind is among the groups, or none is zero.
  """
  stays: dict[str, np.ndarray] = {}
  kernels = {}
  for kind in (one for one in WITHIN if one in kinds):
    for layer, axes in _having(model, kind):
      whole = np.broadcast_to(_nonzero(layer, axes), layer.kernel.shape)
      stays[layer.name] = stays.get(layer.name, True) & whole
      kernels[layer.name] = layer.kernel
  names = [name for name, mask in stays.items() if not mask.all()]
  if not names:
    return None
  return Masks([kernels[n] for n in names], [stays[n].astype(np.float32) for n in names])


def _having(model: keras.Model, kind: str) -> Iterator[tuple[keras.layers.Layer, tuple[int, ...]]]:
  for layer in leaf_layers(model):
    if axes := place_axes(layer, kind):
      yield layer, axes


def _nonzero(layer: keras.layers.Layer, axes: tuple[int, ...]) -> np.ndarray:
  """Bool array that spreads over the kernel: whether a place has any weight but zero."""
  kernel = layer.kernel.numpy()
  others = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
  return (kernel != 0).any(axis=others, keepdims=True)
