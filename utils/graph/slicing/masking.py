"""The masked counterpart of a sliced model: what consumers see of dropped channels set to zero."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.flat.rebuild import variables, weight_names
from secateurs.utils.graph.flat.walk import Ref
from secateurs.utils.graph.rules.base import Cut, Trace
from secateurs.utils.graph.slicing.planning import Plan


@contextlib.contextmanager
def masked(plan: Plan) -> Iterator[None]:
  """Within the block the plan's model is masked; afterwards it is itself again.

  The kernel slices that belong to dropped channels are zero in every layer that consumes them. Where
  channels are summed without a kernel (the product of two tensors, say), they are zero as they enter.
  Nothing else changes, so the outputs are those that slicing promises to keep. Call the model itself
  within the block: `predict` may run a function that was traced before.
  """
  with contextlib.ExitStack() as stack:
    for trace in plan.graph.first_traces.values():
      cut = plan.cut(trace)
      for name, axis, kept in trace.rule.masks(cut):
        stack.enter_context(_masked_weight(trace, name, axis, kept))
    by_name: dict[str, list[tuple[Trace, Cut]]] = {}
    for trace in plan.graph.traced.traces:
      by_name.setdefault(trace.call.name, []).append((trace, plan.cut(trace)))
    for calls in by_name.values():
      trace, cut = calls[0]
      summed = any(
        not cut.ins[one].all() for trace, cut in calls for one in trace.rule.summed(trace)
      )
      if summed:
        operation = hasattr(trace.call.layer, 'function')
        stack.enter_context((_masked_inputs if operation else _masked_list)(calls))
      inside = trace.rule.masked_call(cut)
      if inside is not None:
        stack.enter_context(_replaced(trace.call.layer, 'call', inside))
    yield


@contextlib.contextmanager
def _masked_weight(trace: Trace, name: str, axis: int, kept: np.ndarray) -> Iterator[None]:
  """Zeros a weight's slices that are not kept."""
  variable = dict(zip(weight_names(trace.call.layer), variables(trace.call.layer)))[name]
  value = variable.numpy()
  shape = [1] * value.ndim
  shape[axis] = len(kept)
  variable.assign(np.where(kept.reshape(shape), value, 0))
  try:
    yield
  finally:
    variable.assign(value)


def _masked_inputs(calls: list[tuple[Trace, Cut]]) -> contextlib.AbstractContextManager:
  """Zeros the inputs of an operation's calls, which come in the order of the model."""
  layer = calls[0][0].call.layer
  # Asked before the function is replaced: its arguments have names.
  turns = itertools.cycle([(trace, cut, trace.rule.summed(trace)) for trace, cut in calls])
  own = layer.function

  def function(*args: Any, **kwargs: Any) -> Any:
    trace, cut, summed = next(turns)
    given = {key: value for key, value in trace.call.kwargs.items() if key in kwargs}
    refs = tf.nest.flatten((trace.call.args, given))
    values = tf.nest.flatten((args, kwargs))
    # Each use of a tensor is one input, in order.
    numbers = itertools.count()
    masked_values = []
    for ref, value in zip(refs, values, strict=True):
      number = next(numbers) if isinstance(ref, Ref) else -1
      if number in summed:
        value = value * _mask(cut.ins[number], trace.ins[number].axis, value)
      masked_values.append(value)
    args, kwargs = tf.nest.pack_sequence_as((args, kwargs), masked_values)
    return own(*args, **kwargs)

  return _replaced(layer, 'function', function)


def _masked_list(calls: list[tuple[Trace, Cut]]) -> contextlib.AbstractContextManager:
  """Zeros the inputs of a layer's calls that takes a tensor or a list of tensors."""
  layer = calls[0][0].call.layer
  turns = itertools.cycle([(trace, cut, trace.rule.summed(trace)) for trace, cut in calls])
  own = layer.call

  def call(inputs: tf.Tensor | list[tf.Tensor], **kwargs: Any) -> Any:
    trace, cut, summed = next(turns)
    masked_values = [
      value * _mask(cut.ins[number], trace.ins[number].axis, value) if number in summed else value
      for number, value in enumerate(tf.nest.flatten(inputs))
    ]
    return own(tf.nest.pack_sequence_as(inputs, masked_values), **kwargs)

  return _replaced(layer, 'call', call)


def _mask(kept: np.ndarray, axis: int, value: tf.Tensor) -> tf.Tensor:
  shape = [1] * value.shape.rank
  shape[axis] = len(kept)
  return tf.constant(kept.reshape(shape), value.dtype)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Callable) -> Iterator[None]:
  """Puts another function in an attribute's place for the block."""
  own = vars(owner).get(name)
  setattr(owner, name, value)
  try:
    yield
  finally:
    if own is None:
      delattr(owner, name)
    else:
      setattr(owner, name, own)
