"""A layer that is refit, what normalises its output, and what is added to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.walk import Call, FlatModel
from secateurs.utils.training.layerwise.linear import is_addition, kernel_of

L = keras.layers
_PASSING = (L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D)


@dataclasses.dataclass(frozen=True)
class Target:
  """A layer that is refit, and where its output goes.

  Attributes:
    call: its call.
    norm: the BatchNormalization after it, if that alone reads its output.
    others: tensors that are added to its output, after `norm` or not; empty without an addition.
  """

  call: Call
  norm: str | None
  others: tuple[int, ...]


def find_target(flat: FlatModel, name: str) -> Target:
  """Follows a layer's output to its normalisation and to an addition."""
  call = flat.calls_by_layer()[name][0]
  readers = readers_of(flat)
  norm, tensor = None, call.outputs[0]
  plain = getattr(call.layer, 'activation', None) in (None, keras.activations.linear)
  while plain and tensor not in flat.outputs and len(readers[tensor]) == 1:
    step = readers[tensor][0]
    layer = step.layer
    shared = len(flat.calls_by_layer()[step.name]) > 1
    if type(layer) is L.BatchNormalization and norm is None and not shared:
      norm = step.name
    elif is_addition(layer) and len(step.inputs) > 1:
      same = all(flat.shapes[i] == flat.shapes[tensor] for i in step.inputs)
      others = tuple(i for i in step.inputs if i != tensor)
      return Target(call, norm, others if same and len(others) == len(step.inputs) - 1 else ())
    elif not isinstance(layer, _PASSING):
      break
    tensor = step.outputs[0]
  return Target(call, norm, ())


def readers_of(flat: FlatModel) -> list[list[Call]]:
  """For each tensor the calls that read it."""
  readers: list[list[Call]] = [[] for _ in flat.shapes]
  for call in flat.calls:
    for number in set(call.inputs):
      readers[number].append(call)
  return readers


def affine(layers: Mapping[str, L.Layer], target: Target) -> tuple[np.ndarray, np.ndarray]:
  """Factor and offset that bias and normalisation give a layer's sums at inference, [outputs]."""
  layer = layers[target.call.name]
  size = kernel_of(layer).shape[-1]
  offset = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.zeros(size)
  if target.norm is None:
    return np.ones(size), offset
  norm = layers[target.norm]
  scale = 1 / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
  if norm.scale:
    scale = scale * norm.gamma.numpy()
  shift = norm.beta.numpy() if norm.center else 0.0
  return scale, scale * (offset - norm.moving_mean.numpy()) + shift


def has_shift(target: Target) -> bool:
  """Whether an intercept can be given to the layer: by its bias, or by the mean after it."""
  return bool(target.call.layer.use_bias) or target.norm is not None
