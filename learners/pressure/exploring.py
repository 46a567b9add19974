"""One change of a sub-model's structure: which channels are pruned, and which regrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.pressure import regrowth
from secateurs.learners.pressure.submodel import Columns, SubModel


def columns(made: Columns, present: np.ndarray, stays: np.ndarray, number: int) -> np.ndarray:
  """The columns that stay of a unit's weights W, bool array [channels]: those of highest leverage.

  Where W has fewer rows than columns, those of the largest L1 norms.

  Args:
    made: W.
    present: bool array [channels]: those that have not gone.
    stays: bool array [channels]: those that must stay.
    number: how many stay.
  """
  places = np.flatnonzero(present)
  number = min(number, len(places))
  if made.fan_in < len(places):  # The directions don't tell columns apart.
    scores = made.sums[places]
  else:
    scores = regrowth.leverage_scores(made.gram[np.ix_(places, places)], number)
  scores = np.where(stays[places], np.inf, scores)
  found = np.zeros(len(present), bool)
  found[places[np.argsort(-scores, kind='stable')[:number]]] = True
  return found


def changed(
  sub: SubModel,
  ranked: Ranked,
  present: Mapping[str, np.ndarray],
  counts: Mapping[str, int],
  fraction: float,
  rng: np.random.Generator,
) -> dict[str, np.ndarray]:
  """The channels of the next sub-model, bool array [unit.size] by unit name.

  Args:
    sub: the sub-model of this moment.
    ranked: its channels, with those that must stay.
    present: those that are there, by unit name.
    counts: how many stay when channels are pruned, by unit name.
    fraction: of each unit's channels that regrow.
    rng: the source of randomness.
  """
  found = {}
  for unit in sub.units:
    made, stays = sub.columns(unit, present), ranked.stays[unit.name]
    kept = columns(made, present[unit.name], stays, counts[unit.name])
    found[unit.name] = kept | regrown(made.gram, kept, round(fraction * unit.size), rng)
  return found


def regrown(
  gram: np.ndarray, kept: np.ndarray, number: int, rng: np.random.Generator
) -> np.ndarray:
  """Pruned channels that regrow, bool array [channels]: drawn by what the others cannot express."""
  weights = np.where(kept, -np.inf, regrowth.residuals(gram, kept))
  found = np.zeros(len(kept), bool)
  found[regrowth.sampled(weights, number, rng)] = True
  return found


def over_time(
  changes: Sequence[Mapping], sizes: Mapping[str, int], nb_steps: int
) -> dict[str, list[list[float]]]:
  """Fraction of its channels that each unit has over the training: points by unit name.

  Args:
    changes: `step` and `kept` of each change.
    sizes: channels of each unit, by name.
    nb_steps: of the training.
  """
  found = {}
  for name, size in sizes.items():
    points = [[one['step'] / nb_steps, one['kept'][name] / size] for one in changes]
    found[name] = [*([] if points[0][0] == 0 else [[0.0, 1.0]]), *points, [1.0, points[-1][1]]]
  return found
