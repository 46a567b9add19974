"""What channels that shuffles tie mean for parts of splits, in one sentence.

In a channel shuffle the same channel of every branch goes. Through several of them whole parts of a
later split hang together, which then are equally wide at few widths, or with all channels alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateurs.learners.channels.cuts.even_splits import (
  Masks,
  equal_splits,
  further,
  nearest_even,
  plain_keys,
  touched,
  uneven,
)
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.graph import ChannelGraph

_LITTLE = 1e-3
_SLOW = 'TensorFlow Lite takes a slower operator'


def before_note(graph: ChannelGraph, units: Sequence[Unit]) -> str | None:
  """Which units lose channels evenly in large steps alone, or not at all; None if there are none."""
  steps = []
  for unit in touched(graph, units):
    least = least_even_cut(graph, units, unit)
    if least is None:
      steps.append(f'{unit.name} keeps all {unit.size} channels')
    elif least > 2 * further(unit) + 1:  # Smaller steps always have one that `evened` takes.
      steps.append(f'{unit.name} loses none or at least {least} of {unit.size} channels')
  if not steps:
    return None
  return (
    f'Parts of splits stay equally wide only where {", ".join(steps)}, since what follows ties these '
    f'to each other; elsewhere {_SLOW} for the split.'
  )


def after_note(graph: ChannelGraph, units: Sequence[Unit], masks: Masks) -> str | None:
  """Which parts of splits a choice has left unequal, and what would make them equal; None if none.

  Args:
    graph: of the network before the cut.
    units: what was chosen from.
    masks: bool array [unit.size] by the name of every unit: the channels that stay.
  """
  unequal = uneven(graph, units, masks)
  if not unequal:
    return None
  total = len(equal_splits(graph))
  text = f'{_SLOW} for {len(unequal)} of {total} splits, whose parts are unequally wide'
  keys = plain_keys(graph, units, masks)
  found = nearest_even(graph, units, masks, keys, fewer=_size, more=_size)
  if found is None:
    return f'{text}.'
  nearest = [
    f'{int(found[unit.name].sum())} of {unit.size} channels of {unit.name}'
    for unit in touched(graph, units)
    if found[unit.name].sum() != masks[unit.name].sum()
  ]
  return f'{text}: channels are tied, and the nearest equal parts have {", ".join(nearest)}.'


def least_even_cut(graph: ChannelGraph, units: Sequence[Unit], unit: Unit) -> int | None:
  """The fewest channels of a unit that can go with all splits' parts equal; None if none can."""
  masks = {one.name: np.ones(one.size, bool) for one in units}
  masks[unit.name][-1] = False
  keys = plain_keys(graph, units, masks)
  little = {one.name: _LITTLE for one in units if one is not unit}
  found = nearest_even(graph, units, masks, keys, fewer=_size, worth=little)
  return None if found is None else unit.size - int(found[unit.name].sum())


def _size(unit: Unit) -> int:
  return unit.size
