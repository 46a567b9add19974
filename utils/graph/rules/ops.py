"""TensorFlow operations that were called on Keras tensors (`x * 2`, `tf.nn.relu(x)`, `x[..., :8]`).

Keras wraps each in an op layer; sizes and constants are arguments of the call, and are rewritten
when channels go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.util import tf_inspect

from secateurs.utils.graph.flat.walk import Call, Ref
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.merges import concatenated, joined, merged
from secateurs.utils.graph.rules.shapes import moved, reshaped, resized, spread

UNARY = [
  'nn.relu',
  'nn.relu6',
  'nn.elu',
  'nn.selu',
  'nn.gelu',
  'nn.silu',
  'nn.swish',
  'nn.leaky_relu',
  'nn.sigmoid',
  'nn.tanh',
  'nn.softplus',
  'nn.softsign',
  'math.sigmoid',
  'math.tanh',
  'math.softplus',
  'math.softsign',
  'math.abs',
  'math.exp',
  'math.log',
  'math.log1p',
  'math.sqrt',
  'math.rsqrt',
  'math.square',
  'math.negative',
  'math.sign',
  'math.floor',
  'math.ceil',
  'math.round',
  'math.erf',
  'math.sin',
  'math.cos',
  'math.reciprocal',
  'cast',
  'identity',
  'stop_gradient',
  'clip_by_value',
  'keras.activations.relu',
  'keras.activations.sigmoid',
  'keras.activations.hard_sigmoid',
  'keras.activations.tanh',
  'keras.activations.swish',
  'keras.activations.gelu',
  'zeros_like',
  'ones_like',
  'keras.backend.relu',
  'keras.backend.sigmoid',
  'keras.backend.hard_sigmoid',
  'debugging.check_numerics',
]
BINARY = [
  '__operators__.add',
  'math.add',
  'math.subtract',
  'math.multiply',
  'math.truediv',
  'math.divide',
  'math.maximum',
  'math.minimum',
  'math.pow',
  'math.squared_difference',
  'math.divide_no_nan',
  'math.multiply_no_nan',
  'add_n',
  'math.add_n',
  'nn.bias_add',
  '__operators__.truediv',
]
REDUCTIONS = [
  'math.reduce_mean',
  'math.reduce_sum',
  'math.reduce_max',
  'math.reduce_min',
  'math.reduce_prod',
  'math.reduce_variance',
  'math.reduce_std',
]
SPATIAL = [
  'image.resize',
  'nn.max_pool',
  'nn.max_pool2d',
  'nn.avg_pool',
  'nn.avg_pool2d',
  'nn.max_pool1d',
  'nn.avg_pool1d',
  'nn.avg_pool3d',
  'nn.max_pool3d',
]


def argument(call: Call, name: str, default: Any = None) -> Any:
  """The argument `name` of the operation, wherever it was passed."""
  if name in call.kwargs:
    return call.kwargs[name]
  names = tf_inspect.getfullargspec(call.layer.function).args
  if name in names and names.index(name) < len(call.args):
    return call.args[names.index(name)]
  return default


def with_argument(call: Call, name: str, value: Any) -> tuple[tuple, dict]:
  """The call's arguments with one replaced."""
  if name in call.kwargs:
    return call.args, {**call.kwargs, name: value}
  place = tf_inspect.getfullargspec(call.layer.function).args.index(name)
  return (*call.args[:place], value, *call.args[place + 1 :]), call.kwargs


def _is_ref(value: Any) -> bool:
  return isinstance(value, Ref)


def _array(value: Any) -> np.ndarray | None:
  """`value` as a constant array, or None if it is something else."""
  if isinstance(value, tf.Variable) or value is None or isinstance(value, (Ref, str)):
    return None
  if isinstance(value, tf.Tensor):
    return value.numpy() if hasattr(value, 'numpy') else None
  try:
    array = np.asarray(value)
  except (TypeError, ValueError):
    return None
  return array if array.dtype.kind in 'fiub' else None


def _integers(value: Any) -> list[int] | None:
  """`value` as a list of integers, or None."""
  array = _array(value)
  if array is None or array.dtype.kind not in 'iu':
    return None
  return [int(one) for one in np.ravel(array)]


class OpRule(Rule):
  """Chooses the rule of an operation by its public TensorFlow name."""

  def trace(self, view: View) -> list[Channels]:
    """Asks the operation's rule; unknown operations protect."""
    return _rule(view.call).trace(view)

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """Asks the operation's rule."""
    return _rule(cut.trace.call).rewrite(cut)

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Asks the operation's rule."""
    return _rule(trace.call).constant(trace, ins)


class _Unary(Rule):
  def trace(self, view: View) -> list[Channels]:
    if len(view.ins) != 1 or any(array.ndim for array in _operand_arrays(view.call)):
      return Rule.trace(self, view)
    return [view.ins[0]]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    return [Constant.merged(ins, _evaluate(trace.call, [ins[0].value]))]


def _evaluate(call: Call, values: list[np.ndarray]) -> np.ndarray:
  """Runs the operation on constants in place of its tensors; NaN where any is NaN."""
  known = ~np.isnan(np.sum(values, axis=0))
  numbers = {ref: value[known] for ref, value in zip(call.inputs, values)}

  def fill(value: Any) -> Any:
    return tf.constant(numbers[value.index], tf.float32) if _is_ref(value) else value

  args = tf.nest.map_structure(fill, call.args)
  kwargs = tf.nest.map_structure(fill, call.kwargs)
  out = np.full(len(known), np.nan)
  result = call.layer.function(*args, **kwargs)
  out[known] = np.broadcast_to(tf.cast(result, tf.float32).numpy(), known.sum())
  return out


class _Binary(Rule):
  """Element-wise with broadcasting; constant operands are cut with the channels."""

  def trace(self, view: View) -> list[Channels]:
    rank = len(view.out_shapes[0])
    unequal = any(len(shape) != rank for shape in view.in_shapes)
    if unequal or not _constants_known(view.call, rank) or _bias_over_first(view.call):
      return Rule.trace(self, view)
    return [merged(view)]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    call, out = cut.trace.call, cut.trace.outs[0]
    if out.axis is None or cut.outs[0].all():
      return call.args, call.kwargs
    rank = cut.rank(0)

    def shrink(value: Any) -> Any:
      array = None if _is_ref(value) else _array(value)
      if array is None or array.ndim == 0:
        return value
      axis = out.axis - (rank - array.ndim)
      if axis < 0 or array.shape[axis] == 1:
        return value
      return np.compress(cut.outs[0], array, axis)

    args = tuple(_map_operands(shrink, value) for value in call.args)
    return args, {key: _map_operands(shrink, value) for key, value in call.kwargs.items()}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    size = len(trace.outs[0].labels)
    scalars = all(array.ndim == 0 for array in _operand_arrays(trace.call))
    if not scalars or any(len(one.value) != size for one in ins):
      return Rule.constant(self, trace, ins)
    return [Constant.merged(ins, _evaluate(trace.call, [one.value for one in ins]))]


def _map_operands(function: Callable, value: Any) -> Any:
  """Applies `function` to an operand, or to each of a list of operands that has tensors."""
  if isinstance(value, (list, tuple)) and any(_is_ref(one) for one in value):
    return type(value)(function(one) for one in value)
  return function(value)


def _operand_arrays(call: Call) -> list[np.ndarray]:
  operands = [*call.args, *(v for k, v in call.kwargs.items() if k != 'name')]
  arrays = [_array(value) for value in operands if not _is_ref(value)]
  return [array for array in arrays if array is not None]


def _constants_known(call: Call, rank: int) -> bool:
  operands = [*call.args, *call.kwargs.values()]
  if any(isinstance(value, tf.Variable) for value in operands):
    return False
  return all(array.ndim <= rank for array in _operand_arrays(call))


def _bias_over_first(call: Call) -> bool:
  layout = call.kwargs.get('data_format') or ''
  return layout.startswith('NC') and len(layout) > 2


class _Reduction(Rule):
  def trace(self, view: View) -> list[Channels]:
    channels, rank = view.ins[0], len(view.in_shapes[0])
    given = argument(view.call, 'axis')
    axes = range(rank) if given is None else _integers(given)
    if axes is None or channels.axis is None:
      return Rule.trace(self, view)
    axes = {axis % rank for axis in axes}
    if channels.axis in axes:
      reason = f'{view.title()} sums over the channels'
      view.protect_inputs(reason)
      return view.fixed_outputs(reason)
    gone = 0 if argument(view.call, 'keepdims') else sum(axis < channels.axis for axis in axes)
    return [Channels(channels.axis - gone, channels.labels)]


class _Spatial(Rule):
  def trace(self, view: View) -> list[Channels]:
    layout = argument(view.call, 'data_format') or 'NHWC'
    if layout.startswith('NC') and len(layout) > 3:
      return Rule.trace(self, view)
    return [Channels(len(view.out_shapes[0]) - 1, view.on_axis(0, -1))]


class _Reshape(Rule):
  def trace(self, view: View) -> list[Channels]:
    if _integers(argument(view.call, 'shape')) is None or len(view.ins) != 1:
      return Rule.trace(self, view)
    if view.out_shapes[0][0] is not None and view.in_shapes[0][0] is None:
      return Rule.trace(self, view)
    return [reshaped(view, view.ins[0], view.in_shapes[0], view.out_shapes[0])]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    call, axis = cut.trace.call, cut.trace.outs[0].axis
    if axis is None or cut.outs[0].all():
      return call.args, call.kwargs
    shape = resized(_integers(argument(call, 'shape')), axis, cut.outs[0])
    return with_argument(call, 'shape', list(shape))

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    return [spread(trace, ins[0])]


class _Transpose(Rule):
  def trace(self, view: View) -> list[Channels]:
    perm = argument(view.call, 'perm')
    rank = len(view.in_shapes[0])
    order = list(reversed(range(rank))) if perm is None else _integers(perm)
    if order is None or order[0] != 0:
      return Rule.trace(self, view)
    return [moved(view.ins[0], order)]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    return [ins[0]]


class _ExpandOrSqueeze(Rule):
  def trace(self, view: View) -> list[Channels]:
    channels = view.ins[0]
    rank_in, rank_out = len(view.in_shapes[0]), len(view.out_shapes[0])
    axes = _integers(argument(view.call, 'axis'))
    if axes is None or channels.axis is None:
      return Rule.trace(self, view)
    axes = {axis % max(rank_in, rank_out) for axis in axes}
    if rank_out > rank_in:
      old = [axis for axis in range(rank_out) if axis not in axes]
      return [Channels(old[channels.axis], channels.labels)]
    left = [axis for axis in range(rank_in) if axis not in axes]
    if channels.axis not in left:
      return Rule.trace(self, view)
    return [Channels(left.index(channels.axis), channels.labels)]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    return [ins[0]]


class _Concat(Rule):
  def trace(self, view: View) -> list[Channels]:
    axis = _integers(argument(view.call, 'axis'))
    values = argument(view.call, 'values')
    if axis is None or not all(_is_ref(value) for value in values):
      return Rule.trace(self, view)
    return [concatenated(view, axis[0] % len(view.out_shapes[0]))]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    return [joined(trace, ins)]


class _Split(Rule):
  def trace(self, view: View) -> list[Channels]:
    axis = _integers(argument(view.call, 'axis', 0))
    sizes = _integers(argument(view.call, 'num_or_size_splits'))
    channels = view.ins[0]
    if axis is None or sizes is None or channels.axis is None:
      return Rule.trace(self, view)
    if axis[0] % len(view.in_shapes[0]) != channels.axis:
      return [Channels(channels.axis, channels.labels) for _ in view.out_shapes]
    ends = np.cumsum([shape[channels.axis] for shape in view.out_shapes])[:-1]
    return [Channels(channels.axis, part) for part in np.split(channels.labels, ends)]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    call = cut.trace.call
    axis = _integers(argument(call, 'axis', 0))[0] % cut.rank_in(0)
    if cut.ins[0].all() or axis != cut.trace.ins[0].axis:
      return call.args, call.kwargs
    return with_argument(call, 'num_or_size_splits', [int(out.sum()) for out in cut.outs])

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    if len(trace.outs[0].labels) == len(trace.ins[0].labels):
      return [ins[0] for _ in trace.outs]
    ends = np.cumsum([len(out.labels) for out in trace.outs])[:-1]
    values, spoiled = np.split(ins[0].value, ends), np.split(ins[0].spoiled, ends)
    return [Constant(*pair) for pair in zip(values, spoiled)]


class _Gather(Rule):
  def trace(self, view: View) -> list[Channels]:
    channels = view.ins[0]
    indices, axis = self._indices(view.call), _integers(argument(view.call, 'axis'))
    if indices is None or axis is None or len(view.ins) != 1 or channels.axis is None:
      return Rule.trace(self, view)
    if axis[0] % len(view.in_shapes[0]) != channels.axis:
      return Rule.trace(self, view)
    return [Channels(channels.axis, channels.labels[indices])]

  def _indices(self, call: Call) -> np.ndarray | None:
    array = _array(argument(call, 'indices'))
    simple = array is not None and array.ndim == 1 and array.dtype.kind in 'iu'
    return array if simple and not argument(call, 'batch_dims') else None

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    call = cut.trace.call
    if cut.ins[0].all():
      return call.args, call.kwargs
    place = np.cumsum(cut.ins[0]) - 1
    indices = place[self._indices(call)[cut.outs[0]]]
    return with_argument(call, 'indices', indices.tolist())

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    indices = self._indices(trace.call)
    if indices is None or trace.outs[0].axis is None:
      return Rule.constant(self, trace, ins)
    return [Constant(ins[0].value[indices], ins[0].spoiled[indices])]


class _Slice(Rule):
  """Python indexing: ranges along the channels are counted anew, others do not matter."""

  def trace(self, view: View) -> list[Channels]:
    channels = view.ins[0]
    spec = self._spec(view.call, len(view.in_shapes[0]))
    if spec is None or channels.axis is None or len(view.ins) != 1:
      return Rule.trace(self, view)
    here = spec[channels.axis]
    if not isinstance(here, slice) or not self._forward(here):
      return Rule.trace(self, view)
    gone = sum(isinstance(one, int) for one in spec[: channels.axis])
    return [Channels(channels.axis - gone, channels.labels[here])]

  def _forward(self, part: slice) -> bool:
    return part.step in (None, 1)

  def _spec(self, call: Call, rank: int) -> list[int | slice] | None:
    """One entry for each axis, or None if the indexing is more than ranges and numbers."""
    raw = argument(call, 'slice_spec')
    raw = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    spec: list[int | slice] = []
    for part in raw:
      if isinstance(part, dict):
        part = slice(part['start'], part['stop'], part['step'])
      if part is Ellipsis or (isinstance(part, str) and part == 'Ellipsis'):
        rest = rank - (len(raw) - 1)
        spec.extend([slice(None)] * rest)
      elif isinstance(part, slice):
        ends = (part.start, part.stop, part.step)
        if not all(one is None or isinstance(one, (int, np.integer)) for one in ends):
          return None
        spec.append(part)
      elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        spec.append(int(part))
      else:
        return None
    return spec + [slice(None)] * (rank - len(spec))

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    call, axis = cut.trace.call, cut.trace.ins[0].axis
    if axis is None or cut.ins[0].all():
      return call.args, call.kwargs
    spec = self._spec(call, cut.rank_in(0))
    start, stop, _ = spec[axis].indices(len(cut.ins[0]))
    before = int(cut.ins[0][:start].sum())
    spec[axis] = slice(before, before + int(cut.ins[0][start:stop].sum()), None)
    # Keras keeps ranges as dictionaries, which it can save.
    kept = [_range(one) if isinstance(one, slice) else one for one in spec]
    return with_argument(call, 'slice_spec', tuple(kept))


def _range(part: slice) -> dict[str, int | None]:
  return {'start': part.start, 'stop': part.stop, 'step': part.step}


class _Pad(Rule):
  """Zero padding; added channels (parameter-free shortcuts) are channels of their own."""

  def trace(self, view: View) -> list[Channels]:
    channels = view.ins[0]
    paddings = _array(argument(view.call, 'paddings'))
    if paddings is None or channels.axis is None or len(view.ins) != 1:
      return Rule.trace(self, view)
    before, after = (int(one) for one in paddings[channels.axis])
    mode = str(argument(view.call, 'mode', 'CONSTANT')).upper()
    if not before and not after:
      return [channels]
    if mode != 'CONSTANT':
      return Rule.trace(self, view)
    parts = [view.atoms.new(before), channels.labels, view.atoms.new(after)]
    return [Channels(channels.axis, np.concatenate(parts))]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    call, axis = cut.trace.call, cut.trace.ins[0].axis
    paddings = _array(argument(call, 'paddings'))
    if axis is None or cut.outs[0].all():
      return call.args, call.kwargs
    before = int(paddings[axis][0])
    paddings = paddings.copy()
    size = len(cut.ins[0])
    paddings[axis] = cut.outs[0][:before].sum(), cut.outs[0][before + size :].sum()
    return with_argument(call, 'paddings', paddings.tolist())

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    # Padded channels are silent, but not the channels' own zeros everywhere else.
    paddings = _array(argument(trace.call, 'paddings'))
    axis = trace.outs[0].axis
    fill = argument(trace.call, 'constant_values', 0)
    if paddings is None or axis is None or not np.array_equal(_array(fill), 0):
      return Rule.constant(self, trace, ins)
    before, after = (int(one) for one in paddings[axis])
    around = np.delete(np.asarray(paddings), axis, axis=0).any()
    kept = np.where(ins[0].value == 0, 0.0, np.nan) if around else ins[0].value
    value = np.concatenate([np.zeros(before), kept, np.zeros(after)])
    silent = np.concatenate([np.ones(before, bool), ins[0].silent, np.ones(after, bool)])
    return [Constant(value, silent & np.isnan(value))]


class _Softmax(Rule):
  def trace(self, view: View) -> list[Channels]:
    axis = _integers(argument(view.call, 'axis', -1)) or [-1]
    channels = view.ins[0]
    if channels.axis == axis[0] % len(view.in_shapes[0]):
      view.atoms.protect(channels.labels, f'{view.title()} normalises over the channels')
    return [channels]


_UNKNOWN = Rule()
_RULES: dict[str, Rule] = {
  **dict.fromkeys(UNARY, _Unary()),
  **dict.fromkeys(BINARY, _Binary()),
  **dict.fromkeys(REDUCTIONS, _Reduction()),
  **dict.fromkeys(SPATIAL, _Spatial()),
  'reshape': _Reshape(),
  'transpose': _Transpose(),
  'expand_dims': _ExpandOrSqueeze(),
  'squeeze': _ExpandOrSqueeze(),
  'concat': _Concat(),
  'split': _Split(),
  'gather': _Gather(),
  '__operators__.getitem': _Slice(),
  'pad': _Pad(),
  'nn.softmax': _Softmax(),
}


def _rule(call: Call) -> Rule:
  """The rule of the operation, or the one that protects everything.

  Public names carry the API version in front where it matters (`compat.v1.transpose`).
  """
  symbol = call.layer.symbol or ''
  for prefix in ('compat.v1.', 'compat.v2.'):
    symbol = symbol.removeprefix(prefix)
  return _RULES.get(symbol, _UNKNOWN)
