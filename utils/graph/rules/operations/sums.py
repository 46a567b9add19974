"""Operations that sum: reductions, matmul and einsum, with tensors or constants on either side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Cut, Rule, Sides, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.operations.arguments import (
  argument,
  constant_array,
  integers,
  is_ref,
  with_arguments,
)
from secateurs.utils.graph.rules.operations.forms import form_of, numbers_of, sides


class Reduction(Rule):
  """Reductions over other axes pass the channels; a plain sum may run over them, too.

  Channels that are zero do not change a sum, so it can be cut exactly; a mean divides by their number.
  """

  def __init__(self, sums: bool = False):
    """`sums`: whether zeros may be left out (sums and Euclidean norms)."""
    self.sums = sums

  def trace(self, view: View) -> list[Channels]:
    """Channels pass, are summed over, or are protected."""
    channels, rank = view.ins[0], len(view.in_shapes[0])
    given = argument(view.call, 'axis')
    axes = range(rank) if given is None else integers(given)
    if axes is None or channels.axis is None:
      return Rule.trace(self, view)
    axes = {axis % rank for axis in axes}
    if channels.axis in axes:
      if self.sums and 0 not in axes and _is_euclidean(view.call):
        return [Channels.none() for _ in view.out_shapes]
      reason = f'{view.title()} sums over the channels'
      view.protect_inputs(reason)
      return view.fixed_outputs(reason)
    kept = argument(view.call, 'keepdims')
    gone = 0 if kept else sum(axis < channels.axis for axis in axes)
    return [Channels(channels.axis - gone, channels.labels) for _ in view.out_shapes]

  def summed(self, trace: Trace) -> list[int]:
    """The input, if the sum runs over its channels."""
    over = trace.ins[0].axis is not None and trace.outs[0].axis is None
    return [0] if over and self.sums else []


def _is_euclidean(call: Call) -> bool:
  return argument(call, 'ord', 'euclidean') in ('euclidean', 2, None)


class Contraction(Rule):
  """matmul and einsum: channels that meet in a sum go together, others pass to the output.

  With q and k of the same channels, dropping channel j of both leaves the sum over the others: what
  masking j to zero gives. Constants are cut along the letters that their tensors lose.
  """

  def trace(self, view: View) -> list[Channels]:
    """Ties, letter by letter."""
    form = form_of(view.call, view.in_shapes, len(view.out_shapes[0]))
    if form is None:
      return Rule.trace(self, view)
    operands, terms, out = form
    tracked: dict[str, list[tuple[int, int]]] = {}
    numbers = numbers_of(operands)
    for place, number in numbers.items():
      channels = view.ins[number]
      if channels.axis is not None:
        tracked.setdefault(terms[place][channels.axis], []).append((place, number))
    found: list[tuple[str, np.ndarray]] = []
    for letter, users in tracked.items():
      labels = [view.ins[number].labels for _, number in users]
      if not _all_tracked(letter, operands, terms, users, view):
        for one in labels:
          view.atoms.protect(one, f'{view.title()} meets channels on different axes')
        continue
      for one in labels[1:]:
        view.atoms.tie(labels[0], one)
      if letter in out:
        found.append((letter, labels[0]))
    found.sort(key=lambda one: out.index(one[0]))
    for _, labels in found[:-1]:
      view.atoms.protect(labels, f'{view.title()} makes products of channels')
    if not found:
      return [Channels.none()]
    letter, labels = found[-1]
    return [Channels(out.index(letter), labels)]

  def summed(self, trace: Trace) -> list[int]:
    """Inputs whose channels the sum runs over."""
    form = form_of(trace.call, trace.in_shapes, len(trace.out_shapes[0]))
    if form is None:
      return []
    operands, terms, out = form
    return [
      number
      for place, number in numbers_of(operands).items()
      if trace.ins[number].axis is not None and terms[place][trace.ins[number].axis] not in out
    ]

  def products(
    self, call: Call, in_shapes: Sequence[tuple], out_shapes: Sequence[tuple]
  ) -> list[Sides]:
    """The one product, if anything is summed over."""
    form = form_of(call, in_shapes, len(out_shapes[0]))
    found = None if form is None else sides(form, in_shapes)
    return [] if found is None else [found]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """Cuts the constants."""
    trace, call = cut.trace, cut.trace.call
    form = form_of(call, trace.in_shapes, len(trace.out_shapes[0]))
    if form is None:
      return call.args, call.kwargs
    operands, terms, _ = form
    kept: dict[str, np.ndarray] = {}
    for place, number in numbers_of(operands).items():
      axis = trace.ins[number].axis
      if axis is not None and not cut.ins[number].all():
        kept[terms[place][axis]] = cut.ins[number]
    changed = {}
    for place, (operand, term) in enumerate(zip(operands, terms)):
      array = None if is_ref(operand) else constant_array(operand)
      if array is None:
        continue
      for axis, letter in enumerate(term):
        if letter in kept and array.shape[axis] > 1:
          array = np.compress(kept[letter], array, axis)
          changed[place] = array
    return _with_operands(call, changed)


def _all_tracked(
  letter: str, operands: list[Any], terms: list[str], users: list[tuple[int, int]], view: View
) -> bool:
  """Whether every operand with this letter can be cut along it."""
  mine = {place for place, _ in users}
  size = len(view.ins[users[0][1]].labels)
  if letter in '.?' or any(len(view.ins[number].labels) != size for _, number in users):
    return False
  for place, (operand, term) in enumerate(zip(operands, terms)):
    if term.count(letter) > 1:
      return False
    if letter not in term or place in mine:
      continue
    if is_ref(operand):
      if view.in_shapes[numbers_of(operands)[place]][term.index(letter)] != 1:
        return False
    elif constant_array(operand).shape[term.index(letter)] not in (1, size):
      return False
  return True


def _with_operands(call: Call, changed: dict[int, np.ndarray]) -> tuple[tuple, dict[str, Any]]:
  if not changed:
    return call.args, call.kwargs
  if (call.layer.symbol or '').endswith('einsum'):
    args = [changed.get(place - 1, value) for place, value in enumerate(call.args)]
    return tuple(args), call.kwargs
  return with_arguments(call, {'ab'[place]: value for place, value in changed.items()})
