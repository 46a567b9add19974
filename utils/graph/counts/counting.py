"""Exact counts of multiply-adds and weights, per layer and in total.

MACs are the multiply-adds of convolution, dense, recurrent and attention layers and of the products
of tensors by matmul, einsum and Dot. Bias and everything element-wise are left out. FLOPs are twice
that. Parameters are all weights, BatchNorm statistics included.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.copying import copy_flat
from secateurs.utils.graph.counts.rows import rows_per_sample
from secateurs.utils.graph.flat.attention import attention_inputs, attention_products
from secateurs.utils.graph.flat.layouts import channel_axis
from secateurs.utils.graph.flat.rebuild import variables
from secateurs.utils.graph.flat.walk import Call, FlatModel, flatten_model
from secateurs.utils.graph.rules.registry import rule_of

_LAYERS = keras.layers


@dataclasses.dataclass(frozen=True)
class LayerCount:
  """What one layer costs; a layer that is called n times does the MACs of n calls.

  Attributes:
    name: the layer's name.
    type: the layer's class name.
    in_channels: channels of the first input.
    out_channels: channels of the first output.
    macs: multiply-adds for one sample.
    params: number of weights, trainable or not.
  """

  name: str
  type: str
  in_channels: int | None
  out_channels: int | None
  macs: int
  params: int


@dataclasses.dataclass(frozen=True)
class ModelCount:
  """MACs for one sample, all weights, and the layers that have either, in topological order."""

  macs: int
  params: int
  layers: list[LayerCount]

  def layer(self, name: str) -> LayerCount:
    """Returns the row of one layer.

    Raises:
      KeyError: if no counted layer has that name.
    """
    for row in self.layers:
      if row.name == name:
        return row
    raise KeyError(name)


def count(model: keras.Model, input_shape: Sequence[int] | None = None) -> ModelCount:
  """Counts the MACs and parameters of a functional or Sequential model.

  Args:
    model: the model; nested models are opened, shared layers count once per call.
    input_shape: shape of one sample without the batch, for a model whose input leaves the height
      or width open.

  Raises:
    UserError: if the model is not functional, or a layer's size is open and no shape was given.
  """
  flat = flatten_model(model)
  if input_shape is not None or flat.reshaped:
    flat = flatten_model(copy_flat(flat, input_shape))
  rows, times = [], rows_per_sample(flat)
  for name, calls in flat.calls_by_layer().items():
    layer = calls[0].layer
    macs = _macs_of(flat, calls, times)
    params = sum(math.prod(weight.shape) for weight in variables(layer))
    if macs or params:
      first = calls[0]
      channels_in = _channels(layer, flat.shapes[first.inputs[0]]) if first.inputs else None
      channels_out = _channels(layer, flat.shapes[first.outputs[0]])
      rows.append(LayerCount(name, type(layer).__name__, channels_in, channels_out, macs, params))
  return ModelCount(sum(r.macs for r in rows), sum(r.params for r in rows), rows)


def part_of(flat: FlatModel, calls: Sequence[Call]) -> float:
  """The fraction of a network's multiply-adds that some of its calls do, in (0, 1].

  Of a network without any, or of which a layer's size is open, it is 1.
  """
  whole = macs_of(flat, flat.calls)
  return max(macs_of(flat, calls), 1) / whole if whole else 1.0


def macs_of(flat: FlatModel, calls: Sequence[Call]) -> int:
  """Multiply-adds of some calls for one sample; 0 where a layer's size is open."""
  try:
    return _macs_of(flat, calls, rows_per_sample(flat))
  except UserError:
    return 0


def _macs_of(flat: FlatModel, calls: Sequence[Call], times: list[int]) -> int:
  """Multiply-adds of some calls for one sample; `times`: see `rows_per_sample`."""
  return sum(_macs(call, flat.shapes, call.name) * _rows(call, times) for call in calls)


def _macs(call: Call, shapes: list[tuple], name: str) -> int:
  """Multiply-adds of one call for one row of the batch."""
  layer, rule = call.layer, _rule(call.layer)
  if isinstance(layer, _LAYERS.MultiHeadAttention):
    return _attention(call, shapes, name)
  if rule:
    shape_out = _known(shapes[call.outputs[0]], name)
    return rule(layer, shapes[call.inputs[0]], shape_out, name)
  ins, outs = ([shapes[one] for one in numbers] for numbers in (call.inputs, call.outputs))
  products = rule_of(layer).products(call, ins, outs)
  return sum(math.prod(_known((None, *sides), name)[1:]) for sides in products)


def _rows(call: Call, times: list[int]) -> int:
  return max((times[number] for number in call.inputs), default=1)


def _channels(layer: keras.layers.Layer, shape: tuple) -> int | None:
  return shape[channel_axis(layer, len(shape))] if len(shape) > 1 else None


def _known(shape: tuple, name: str) -> tuple:
  """Returns `shape` if all but the batch is known, else says how to count anyway."""
  if any(size is None for size in shape[1:]):
    raise UserError(
      f'Layer {name!r} works on a shape of {shape}, expected known sizes to count MACs:'
      ' pass input_shape=(height, width, channels) to count().'
    )
  return shape


def _conv(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  return math.prod(shape_out[1:]) * math.prod(layer.kernel.shape[:-1])


def _transposed(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  # Every input value meets the whole kernel of its channel.
  positions = math.prod(_known(shape_in, name)[1:]) // _channels(layer, shape_in)
  return positions * math.prod(layer.kernel.shape)


def _depthwise(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  return math.prod(shape_out[1:]) * math.prod(layer.depthwise_kernel.shape[:-2])


def _separable(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  positions = math.prod(shape_out[1:]) // _channels(layer, shape_out)
  return positions * (
    math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
  )


def _attention(call: Call, shapes: list[tuple], name: str) -> int:
  numbers = attention_inputs(call)
  named = [numbers.get(part, numbers['value']) for part in ('query', 'key', 'value')]
  read = [_known(shapes[call.inputs[number]], name) for number in named]
  products = attention_products(call.layer, read, shapes[call.outputs[0]])
  return sum(math.prod(sides) for sides in products)


def _dense(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  return math.prod(shape_out[1:]) * int(layer.kernel.shape[0])


def _einsum_dense(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  inputs, rest = layer.equation.replace(' ', '').split(',')
  kernel, output = rest.split('->')
  sizes = dict(zip(kernel, layer.kernel.shape))
  summed = [letter for letter in kernel if letter in inputs and letter not in output]
  if not summed:
    return 0  # a learned scale, not a dense layer
  return math.prod(shape_out[1:]) * math.prod(int(sizes[letter]) for letter in summed)


def _local(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  window = math.prod(layer.kernel_size) * _channels(layer, shape_in)
  return math.prod(shape_out[1:]) * window


def _recurrent(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  steps = _known(shape_in, name)[1]
  return steps * (math.prod(layer.cell.kernel.shape) + math.prod(layer.cell.recurrent_kernel.shape))


def _conv_recurrent(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  cell = layer.cell
  steps, shape = _known(shape_in, name)[1], shape_out[2 if layer.return_sequences else 1 :]
  positions = math.prod(shape) // cell.filters
  return steps * positions * (math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape))


def _cells(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  cells = getattr(layer.cell, 'cells', [layer.cell])
  if not all(hasattr(one, 'kernel') and hasattr(one, 'recurrent_kernel') for one in cells):
    return 0
  kernels = [math.prod(one.kernel.shape) + math.prod(one.recurrent_kernel.shape) for one in cells]
  return _known(shape_in, name)[1] * sum(kernels)


def _bidirectional(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  both = (layer.forward_layer, layer.backward_layer)
  if not all(isinstance(one, (_LAYERS.LSTM, _LAYERS.GRU, _LAYERS.SimpleRNN)) for one in both):
    return 0
  return sum(_recurrent(one, shape_in, shape_out, name) for one in both)


def _time_distributed(layer: _LAYERS.Layer, shape_in: tuple, shape_out: tuple, name: str) -> int:
  rule = _rule(layer.layer)
  if rule is None:
    return 0
  steps = _known(shape_in, name)[1]
  shape_in, shape_out = (shape_in[0], *shape_in[2:]), (shape_out[0], *shape_out[2:])
  return steps * rule(layer.layer, shape_in, shape_out, name)


_MACS: list[tuple[tuple[type, ...], Callable[..., int]]] = [
  ((_LAYERS.SeparableConv1D, _LAYERS.SeparableConv2D), _separable),
  ((_LAYERS.DepthwiseConv1D, _LAYERS.DepthwiseConv2D), _depthwise),
  ((_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose, _LAYERS.Conv3DTranspose), _transposed),
  ((_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D), _conv),
  ((_LAYERS.LocallyConnected1D, _LAYERS.LocallyConnected2D), _local),
  ((_LAYERS.EinsumDense,), _einsum_dense),
  ((_LAYERS.Dense,), _dense),
  ((_LAYERS.LSTM, _LAYERS.GRU, _LAYERS.SimpleRNN), _recurrent),
  ((_LAYERS.ConvLSTM1D, _LAYERS.ConvLSTM2D, _LAYERS.ConvLSTM3D), _conv_recurrent),
  ((_LAYERS.RNN,), _cells),
  ((_LAYERS.Bidirectional,), _bidirectional),
  ((_LAYERS.TimeDistributed,), _time_distributed),
]


def _rule(layer: keras.layers.Layer) -> Callable[..., int] | None:
  """The MAC formula of the first class in the table that `layer` is an instance of."""
  return next((rule for types, rule in _MACS if isinstance(layer, types)), None)
