"""A copy of a network that also gives what some of its layers read or make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.slicing.builder import apply_plan
from secateurs.utils.graph.slicing.settling import plan_slice

L = keras.layers
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Side = Literal['input', 'output']
INPUT: Side = 'input'
OUTPUT: Side = 'output'
_PASSING = (L.BatchNormalization, L.Activation, L.ReLU, L.LeakyReLU, L.PReLU, L.ELU, L.Dropout)
_PASSING_SYMBOLS = ('nn.relu', 'nn.relu6', 'nn.leaky_relu', 'nn.elu', 'nn.silu', 'nn.swish')


def made_by(flat: FlatModel, name: str, *, additions: bool = True) -> str:
  """The layer whose output is what a layer makes: after its normalisation, activation and addition.

  The output is followed through layers that keep its shape as long as it has one reader.

  Args:
    flat: the network.
    name: of the layer.
    additions: whether additions are passed as well.
  """
  call = flat.calls_by_layer()[name][0]
  tensor, last = call.outputs[0], name
  while tensor not in flat.outputs:
    readers = [step for step in flat.calls if tensor in step.inputs]
    if len(readers) != 1 or not _passes(flat, readers[0], tensor, additions):
      return last
    last, tensor = readers[0].name, readers[0].outputs[0]
  return last


def _passes(flat: FlatModel, step: Any, tensor: int, additions: bool) -> bool:
  once = len(flat.calls_by_layer()[step.name]) == 1 and len(step.outputs) == 1
  same = once and flat.shapes[step.outputs[0]] == flat.shapes[tensor]
  if additions and type(step.layer) is L.Add:
    return same
  known = isinstance(step.layer, _PASSING)
  known |= getattr(step.layer, 'symbol', None) in _PASSING_SYMBOLS
  return same and known and len(step.inputs) == 1


class Probe:
  """What layers read ('input'), or make ('output'), on images.

  What is not finite raises a UserError.

  Attributes:
    names: of the layers.
  """

  def __init__(
    self,
    graph: ChannelGraph,
    side: Side = INPUT,
    layers: Collection[str] | None = None,
    *,
    additions: bool = True,
  ):
    """Copies the network.

    Args:
      graph: of the network.
      side: which tensors are given; see `made_by` for what a layer makes.
      layers: names of layers; default: all that sum over channels, or all that make some.
      additions: see `made_by`.
    """
    traces = graph.first_traces.items()
    of = 'consumed' if side == INPUT else 'produced'
    self.names = [
      name
      for name, trace in traces
      if getattr(trace, of) is not None and (layers is None or name in layers)
    ]
    copy = apply_plan(plan_slice(graph, {}))
    if side == INPUT:
      self._axes = [graph.trace(name).ins[0].axis for name in self.names]
      taps = [copy.get_layer(name).get_input_at(0) for name in self.names]
    else:
      flat = graph.traced.flat
      self._axes = [graph.trace(name).outs[0].axis for name in self.names]
      ends = [made_by(flat, name, additions=additions) for name in self.names]
      taps = [copy.get_layer(name).get_output_at(0) for name in ends]
    self._model = keras.Model(copy.inputs, [*taps, *copy.outputs])
    self._compiled = tf.function(lambda images: self._model(images, training=False))

  def tensors(self, images: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Layer names and their tensors with the channels last, float32 [samples, ..., channels]."""
    values = self._compiled(nested.as_tensors(images))
    for name, value, axis in zip(self.names, values, self._axes):
      yield name, np.moveaxis(_finite(name, np.asarray(value, np.float32)), axis, -1)

  def maps(self, images: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Layer names and their maps, float64 [samples, positions, channels]."""
    values = self._model(nested.as_tensors(images), training=False)
    for name, value, axis in zip(self.names, values, self._axes):
      yield name, _channels_last(_finite(name, np.asarray(value)), axis)

  def maps_and_gradients(
    self, batch: tuple[Any, Any], loss: Loss
  ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The same with the loss's derivatives, for a batch (images, labels)."""
    images, labels = nested.as_tensors(batch[0]), batch[1]
    real = [one for one in nested.parts(images) if one.dtype.is_floating]
    with tf.GradientTape() as tape:
      tape.watch(real)  # so that frozen layers have derivatives, too
      values = self._model(images, training=False)
      maps = values[: len(self.names)]
      outputs = values[len(self.names) :]
      lost = loss(labels, outputs[0] if len(outputs) == 1 else tuple(outputs))
    zeros = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(lost, maps, unconnected_gradients=zeros)
    for name, value, gradient, axis in zip(self.names, maps, gradients, self._axes):
      value = _finite(name, np.asarray(value))
      yield name, _channels_last(value, axis), _channels_last(gradient, axis)


def _finite(name: str, maps: np.ndarray) -> np.ndarray:
  """The maps themselves; a rank, a count or a histogram would hide what is no number in them."""
  if not np.isfinite(maps).all():
    raise UserError(
      f'The maps of layer {name!r} have values that are not finite numbers: check the data and the '
      'weights for NaN.'
    )
  return maps


def _channels_last(tensor: tf.Tensor | np.ndarray, axis: int) -> np.ndarray:
  array = np.moveaxis(np.asarray(tensor, np.float64), axis, -1)
  return array.reshape(len(array), -1, array.shape[-1])
