"""Cuts through a flat model: what crosses them, and where a single tensor does."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import fill
from secateurs.utils.graph.flat.walk import Call, FlatModel


@dataclasses.dataclass(frozen=True)
class Neck:
  """A place where one tensor alone carries all that comes before to all that comes after.

  Attributes:
    position: calls before it.
    tensor: the tensor's number.
    nb_convs: convolutions before it.
  """

  position: int
  tensor: int
  nb_convs: int


def crossing(flat: FlatModel, position: int) -> list[int]:
  """Tensors that exist before call number `position` and that it or later calls read."""
  before = {number for number, _ in flat.inputs}
  before.update(number for call in flat.calls[:position] for number in call.outputs)
  read = {number for call in flat.calls[position:] for number in call.inputs}
  return sorted(before & (read | set(flat.outputs)))


def is_convolution(call: Call) -> bool:
  """Whether a call is one of a convolution, depthwise and transposed ones included."""
  return 'Conv' in type(call.layer).__name__


def counted_layers(flat: FlatModel) -> set[str]:
  """Names of the convolutions, or of the Dense layers where a network has none."""
  convs = {call.name for call in flat.calls if is_convolution(call)}
  dense = {call.name for call in flat.calls if isinstance(call.layer, keras.layers.Dense)}
  return convs or dense


def necks(flat: FlatModel) -> list[Neck]:
  """All places after a convolution where one map is all that crosses, in order.

  In a network without convolutions Dense layers stand in for them.
  """
  counts = counted_layers(flat)
  least = 3 if any(is_convolution(call) for call in flat.calls) else 2  # Axes of a map.
  last = {number: len(flat.calls) for number in flat.outputs}
  for index, call in reversed(list(enumerate(flat.calls))):
    for number in call.inputs:
      last.setdefault(number, index)
  live = {number for number, _ in flat.inputs}
  found, nb_convs = [], 0
  for index, call in enumerate(flat.calls):
    live.update(call.outputs)
    live = {number for number in live if last.get(number, -1) > index}
    nb_convs += call.name in counts
    if len(live) == 1 and nb_convs:
      (tensor,) = live
      if len(flat.shapes[tensor]) >= least:
        found.append(Neck(index + 1, tensor, nb_convs))
  return found


def even_necks(flat: FlatModel, nb_cuts: int) -> list[Neck]:
  """Cuts a model into nearly equal numbers of convolutions, at its necks.

  Cut number p of P lies where the number of convolutions before it is nearest to p / (P + 1) of all;
  of several places with that number it is the last one. Residual blocks have a neck at their end
  only, so no cut runs through one.

  Args:
    flat: the model.
    nb_cuts: P.

  Returns:
    P necks in order, or fewer where there are not so many with a convolution between each two of
    them and after the last.
  """
  counts = counted_layers(flat)
  total = sum(call.name in counts for call in flat.calls)
  by_count = {neck.nb_convs: neck for neck in necks(flat) if neck.nb_convs < total}
  candidates = [by_count[count] for count in sorted(by_count)]
  nb_cuts, found, first = min(nb_cuts, len(candidates)), [], 0
  for number in range(1, nb_cuts + 1):
    wanted = number * total / (nb_cuts + 1)
    end = len(candidates) - (nb_cuts - number)
    best = min(range(first, end), key=lambda i: abs(candidates[i].nb_convs - wanted))
    found.append(candidates[best])
    first = best + 1
  return found


def first_calls(flat: FlatModel) -> dict[str, int]:
  """Index of each layer's first call, by name."""
  found: dict[str, int] = {}
  for index, call in enumerate(flat.calls):
    found.setdefault(call.name, index)
  return found


def given(flat: FlatModel, inputs: Any) -> dict[int, tf.Tensor]:
  """Inputs of a model by tensor number, of the types that it reads; several come in a tuple."""
  numbers = [number for number, _ in flat.inputs]
  values = zip(numbers, tf.nest.flatten(inputs), strict=True)
  return {number: tf.cast(value, flat.dtypes[number]) for number, value in values}


def outputs_of(flat: FlatModel, values: Mapping[int, Any]) -> Any:
  """The outputs of a model among values by tensor number: one alone, or several in a tuple."""
  found = tuple(values[number] for number in flat.outputs)
  return found[0] if len(found) == 1 else found


def calls_between(flat: FlatModel, position: int, ends: Collection[int]) -> list[Call]:
  """The calls from number `position` on that some tensors depend on, in order."""
  needed, found = set(ends), []
  for call in reversed(flat.calls[position:]):
    if needed.intersection(call.outputs):
      found.append(call)
      needed.update(call.inputs)
  return found[::-1]


def run_calls(
  calls: Sequence[Call],
  tensors: Mapping[int, tf.Tensor],
  *,
  training: bool = False,
  wanted: Collection[int] | None = None,
) -> dict[int, Any]:
  """Runs calls in order.

  Args:
    calls: what to run.
    tensors: values by tensor number, of all that the calls read and do not make.
    training: the mode, for layers that were not given one when the model was built.
    wanted: the tensors to return; others are let go after the last call that reads them.

  Returns:
    The given values and those that were made, or of these the wanted ones.
  """
  values = dict(tensors)
  last: dict[int, int] = {}
  if wanted is not None:
    last = {number: index for index, call in enumerate(calls) for number in call.inputs}
  for index, call in enumerate(calls):
    kwargs = dict(fill(call.kwargs, values))
    if call.layer._call_spec.expects_training_arg and (
      not training or kwargs.get('training') is None
    ):
      kwargs['training'] = training
    results = call.layer(*fill(call.args, values), **kwargs)
    values.update(zip(call.outputs, tf.nest.flatten(results), strict=True))
    if wanted is not None:
      for number in {*call.inputs, *call.outputs}.difference(wanted):
        if last.get(number, -1) <= index:
          values.pop(number, None)
  return values if wanted is None else {number: values[number] for number in wanted}
