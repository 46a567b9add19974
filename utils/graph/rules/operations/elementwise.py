"""Element-wise operations: any number of tensors and constants, broadcast against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.merges import merged
from secateurs.utils.graph.rules.operations.arguments import (
  argument,
  constant_array,
  integers,
  is_ref,
  map_operands,
  operand_arrays,
)

_MATH_UNARY = (
  'abs acos acosh asin asinh atan atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e ceil conj cos cosh'
  ' digamma erf erfc erfcinv erfinv exp expm1 floor imag is_finite is_inf is_nan lgamma log log1p'
  ' log_sigmoid logical_not ndtri negative real reciprocal reciprocal_no_nan rint round rsqrt sigmoid'
  ' sign sin sinh softplus softsign sqrt square tan tanh'
)
_NN_UNARY = 'elu gelu leaky_relu relu relu6 selu sigmoid silu softplus softsign swish tanh'
_KERAS = (
  'elu exponential gelu hard_sigmoid linear mish relu selu sigmoid softplus softsign swish tanh'
)
_OTHER_UNARY = (
  'cast identity stop_gradient clip_by_value zeros_like ones_like debugging.check_numerics'
  ' keras.backend.relu keras.backend.sigmoid keras.backend.hard_sigmoid '
  ' saturate_cast quantization.fake_quant_with_min_max_args math.nextafter'
)
_MATH_BINARY = (
  'add add_n atan2 divide divide_no_nan equal floordiv floormod greater greater_equal igamma less'
  ' less_equal logical_and logical_or logical_xor maximum minimum mod multiply multiply_no_nan'
  ' not_equal pow squared_difference subtract truediv xdivy xlog1py xlogy zeta'
)
_OTHER_BINARY = (
  '__operators__.add __operators__.truediv add_n nn.bias_add floor_div floordiv realdiv truncatediv'
  ' truncatemod where where_v2 nn.batch_normalization div div_no_nan'
)

SYMBOLS = [
  *(f'math.{name}' for name in _MATH_UNARY.split()),
  *(f'nn.{name}' for name in _NN_UNARY.split()),
  *(f'keras.activations.{name}' for name in _KERAS.split()),
  *_OTHER_UNARY.split(),
  *(f'math.{name}' for name in _MATH_BINARY.split()),
  *_OTHER_BINARY.split(),
]


class Elementwise(Rule):
  """Every output value depends on the input values at its place; constants are cut with them."""

  def trace(self, view: View) -> list[Channels]:
    """Ties operands that meet; what is broadcast over the channels is protected."""
    rank = len(view.out_shapes[0])
    unequal = any(len(shape) != rank for shape in view.in_shapes)
    if unequal or not _constants_known(view.call, rank) or _bias_over_first(view.call):
      return Rule.trace(self, view)
    if len(view.ins) == 1 and view.in_shapes[0] == view.out_shapes[0]:
      return [view.ins[0]]
    return [merged(view)]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """Cuts constants that have one number for each channel."""
    call, out = cut.trace.call, cut.trace.outs[0]
    if out.axis is None or cut.outs[0].all():
      return call.args, call.kwargs
    rank = cut.rank(0)

    def shrink(value: Any) -> Any:
      array = None if is_ref(value) else constant_array(value)
      if array is None or array.ndim == 0:
        return value
      axis = out.axis - (rank - array.ndim)
      if axis < 0 or array.shape[axis] == 1:
        return value
      return np.compress(cut.outs[0], array, axis)

    args = tuple(map_operands(shrink, value) for value in call.args)
    return args, {key: map_operands(shrink, value) for key, value in call.kwargs.items()}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """The operation's value, where no constant varies along the channels."""
    size = len(trace.outs[0].labels)
    scalars = all(array.ndim == 0 for array in operand_arrays(trace.call))
    if not scalars or any(len(one.value) != size for one in ins):
      return Rule.constant(self, trace, ins)
    return [Constant.merged(ins, _evaluate(trace.call, [one.value for one in ins]))]


def _evaluate(call: Call, values: list[np.ndarray]) -> np.ndarray:
  """Runs the operation on constants in place of its tensors; NaN where any is NaN."""
  known = ~np.isnan(np.sum(values, axis=0))
  numbers = {ref: value[known] for ref, value in zip(call.inputs, values)}

  def fill(value: Any) -> Any:
    return tf.constant(numbers[value.index], tf.float32) if is_ref(value) else value

  args = tf.nest.map_structure(fill, call.args)
  kwargs = tf.nest.map_structure(fill, call.kwargs)
  out = np.full(len(known), np.nan)
  try:
    result = call.layer.function(*args, **kwargs)
  except (TypeError, ValueError, tf.errors.OpError):
    return out  # Booleans and integers, say: not followed.
  out[known] = np.broadcast_to(tf.cast(result, tf.float32).numpy(), known.sum())
  return out


def _constants_known(call: Call, rank: int) -> bool:
  operands = [*call.args, *call.kwargs.values()]
  if any(isinstance(value, tf.Variable) for value in operands):
    return False
  return all(array.ndim <= rank for array in operand_arrays(call))


def _bias_over_first(call: Call) -> bool:
  layout = call.kwargs.get('data_format') or ''
  return layout.startswith('NC') and len(layout) > 2


class Dropout(Rule):
  """tf.nn.dropout: channels pass, unless the noise has one number for each."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    channels = view.ins[0]
    shape = argument(view.call, 'noise_shape')
    if shape is not None and channels.axis is not None:
      sizes = [None if is_ref(one) else one for one in shape]
      if isinstance(sizes[channels.axis], int) and sizes[channels.axis] > 1:
        return Rule.trace(self, view)
    return [channels]


class Along(Rule):
  """Softmax, l2_normalize, cumsum, sort: channels pass unless the operation runs along them."""

  def __init__(self, default: Any, what: str, sums: bool = False):
    """Names the operation.

    Args:
      default: the axis if none is given, None for all.
      what: what it does, for the reason.
      sums: whether zeros may be left out, so that it is cut where norms are.
    """
    self.default = default
    self.what = what
    self.sums = sums

  def trace(self, view: View) -> list[Channels]:
    """Channels pass or are protected."""
    channels = view.ins[0]
    axes = self._axes(view.call, len(view.in_shapes[0]))
    if axes is None:
      return Rule.trace(self, view)
    if channels.axis in axes and not (self.sums and view.cut_norms):
      view.atoms.protect(channels.labels, f'{view.title()} {self.what} the channels')
    return [channels] * len(view.out_shapes)

  def _axes(self, call: Call, rank: int) -> list[int] | None:
    given = argument(call, 'axis', argument(call, 'dim', None))
    given = self.default if given is None else given
    axes = range(rank) if given is None else integers(given)
    return None if axes is None else [one % rank for one in axes]

  def summed(self, trace: Trace) -> list[int]:
    """The input, if the operation sums over its channels."""
    axes = self._axes(trace.call, len(trace.in_shapes[0]))
    return [0] if self.sums and axes is not None and trace.ins[0].axis in axes else []


class Crelu(Rule):
  """tf.nn.crelu: channel j gives outputs j and C + j, or the map is doubled along another axis."""

  def trace(self, view: View) -> list[Channels]:
    """The atoms twice, if the operation joins along the channels."""
    channels, rank = view.ins[0], len(view.in_shapes[0])
    axis = (integers(argument(view.call, 'axis', -1)) or [-1])[0] % rank
    if channels.axis != axis:
      return [channels]
    return [Channels(axis, np.tile(channels.labels, 2))]


class ShapeOf(Rule):
  """tf.shape: numbers, of which that of the channels must not be used; see `Atoms.sizes`."""

  def trace(self, view: View) -> list[Channels]:
    """Remembers where the number of channels stands."""
    channels = view.ins[0]
    if channels.axis is not None:
      view.atoms.sizes[view.call.outputs[0]] = channels
    return [Channels.none()]
