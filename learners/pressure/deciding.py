"""What a network under pressure does without: channels and residual blocks, by norms or zeros."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.even_splits import evened
from secateurs.learners.pressure.blocks import Branch
from secateurs.learners.pressure.rp_config import RpConfig


def by_counts(
  ranked: Ranked, counts: Mapping[str, int], *, even: bool = False
) -> dict[str, np.ndarray]:
  """The highest channels of each unit, bool array [unit.size] by unit name.

  Channels that have gone already do not regrow.

  Args:
    ranked: the channels' keys.
    counts: how many stay, by unit name.
    even: whether parts of splits stay equally wide, see `even_splits.evened`.
  """
  found = {}
  for unit in ranked.units:
    keys = ranked.keys[unit.name]
    found[unit.name] = best(keys, min(counts[unit.name], int((keys > -np.inf).sum())))
  return evened(ranked.graph, ranked.units, found, ranked.keys) if even else found


def by_zeros(
  ranked: Ranked, zeros: Mapping[str, np.ndarray], floor: float = 0.0, *, even: bool = False
) -> dict[str, np.ndarray]:
  """All channels but those of zeros and those that have gone.

  Of those of zeros the best stay where fewer than `floor`, a fraction of the unit, and one would be
  left. With `even` as `by_counts`.
  """
  found = {}
  for unit in ranked.units:
    keys = ranked.keys[unit.name]
    lost = (zeros[unit.name] & (keys < np.inf)) | (keys == -np.inf)
    keys = np.where(lost, np.minimum(keys, -1.0), keys)
    least = min(_least(unit.size, floor), int((ranked.keys[unit.name] > -np.inf).sum()))
    found[unit.name] = best(keys, max(unit.size - int(lost.sum()), least, 1))
  return evened(ranked.graph, ranked.units, found, ranked.keys) if even else found


def lost_blocks(branches: Sequence[Branch], norms: np.ndarray, number: int | None) -> list[str]:
  """Names of the blocks that go.

  Args:
    branches: of the blocks, in order.
    norms: of each branch's weights, [branches], in units of their strengths.
    number: how many go, those of the smallest norms; None for those whose norm is zero.
  """
  if number is None:
    chosen = np.flatnonzero(norms == 0)
  else:
    chosen = np.sort(np.argsort(norms, kind='stable')[:number])
  return [branches[i].block for i in chosen]


def without_blocks(
  kept: Mapping[str, np.ndarray], branches: Sequence[Branch], gone: Sequence[str]
) -> dict[str, np.ndarray]:
  """The choice of channels when whole branches go: nothing stays inside of them."""
  found = dict(kept)
  for branch in branches:
    if branch.block not in gone:
      continue
    for name in list(found):
      layer, _, side = name.rpartition(':')
      if name in branch.units:
        found[name] = np.zeros_like(found[name])
      elif side == 'input' and layer in branch.layers:  # It reads nothing any more.
        found[name] = np.ones_like(found[name])
  return found


def saved_by_floor(config: RpConfig, ranked: Ranked, kept: Mapping[str, np.ndarray]) -> list[str]:
  """`below_floor`; nothing where one ratio for all layers decides, whatever the floor."""
  return below_floor(ranked, kept, config.floor, config.prefix) if config.has_floor else []


def _least(size: int, floor: float) -> int:
  return max(math.ceil(floor * size), 1)


def below_floor(
  ranked: Ranked, kept: Mapping[str, np.ndarray], floor: float, prefix: str
) -> list[str]:
  """Sentences about the units that only the floor saves from a threshold over the whole network.

  The threshold is the highest key of the channels that have gone; of a unit at its floor, fewer
  channels than the floor may lie above it.

  Args:
    ranked: the channels' keys.
    kept: the choice, by unit name.
    floor: fraction of its channels that each unit keeps at least.
    prefix: of the flag.
  """
  gone = [ranked.keys[unit.name][~kept[unit.name]] for unit in ranked.units]
  threshold = max((float(one.max()) for one in gone if one.size), default=-np.inf)
  notes = []
  for unit in ranked.units:
    least = _least(unit.size, floor)
    above = int((ranked.keys[unit.name] > threshold).sum())
    if kept[unit.name].sum() <= least and above < least:
      notes.append(
        f'{unit.name}: {above} of {unit.size} channels lie above the threshold of the network '
        f'({threshold:.3g}), but {int(kept[unit.name].sum())} stay by --{prefix}floor {floor:g}'
      )
  return notes
