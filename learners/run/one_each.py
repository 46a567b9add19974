"""One level of each part at the least sum of losses: the grouped knapsack of all allocations.

  min  sum_p loss[p, l_p]   subject to   sum_p saving[p, l_p] >= need

over one level l_p of each part, with savings and needs for each of one or several places. It is an
integer linear program, which HiGHS solves exactly except for its tolerances: losses are scaled so that
its absolute gap (1e-6) lies below the weight of ties, and the relative one is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from secateurs.learners.run.console import say

_NODES, _SECONDS = 20_000, 60.0  # Nodes do not depend on how busy the machine is.
_SCALE = 1e6  # Of the greatest loss, against HiGHS's absolute gap of 1e-6.
_TIE = 1e-9  # What the greatest tie counts, as a fraction of the greatest loss.
_AT_A_LIMIT = 1  # Status of milp.


def one_each(
  losses: Sequence[np.ndarray],
  savings: Sequence[np.ndarray],
  need: float | np.ndarray,
  *,
  ties: Sequence[np.ndarray] | None = None,
  apart: Sequence[tuple[int, int]] = (),
) -> np.ndarray | None:
  """The level of each part, int array [parts]; None where nothing saves enough.

  Where the search for the best choice reaches its limit of 20,000 nodes or a minute, the best one that
  was found is taken, and that is said.

  Args:
    losses: by level, for each part; not negative.
    savings: by level, for each part: [levels] or [levels, places].
    need: what is to be saved, in the unit of the savings; an array [places] for several places.
    ties: by level, for each part: of choices that lose equally, that with the least sum; default: the
      levels' numbers.
    apart: pairs of parts, one of which stays at its first level at least.
  """
  sizes = [len(one) for one in losses]
  starts = np.cumsum([0, *sizes])
  owners = np.repeat(np.arange(len(sizes)), sizes)
  columns = np.arange(len(owners))
  rows = np.concatenate(
    [np.asarray(one, float).reshape(size, -1) for one, size in zip(savings, sizes, strict=True)]
  )
  scale = max(float(np.abs(rows).max()), 1e-30)
  constraints = [
    LinearConstraint(sparse.coo_array((np.ones(len(owners)), (owners, columns))), 1, 1),
    LinearConstraint((rows / scale).T, lb=np.atleast_1d(need) / scale),
  ]
  if len(apart):
    which = np.repeat(np.arange(len(apart)), 2)
    firsts = starts[np.ravel(apart)]
    shape = (len(apart), len(owners))
    exclusions = sparse.coo_array((np.ones(2 * len(apart)), (which, firsts)), shape=shape)
    constraints.append(LinearConstraint(exclusions, lb=1))
  result = milp(
    _goal(
      np.concatenate(losses), columns - starts[owners] if ties is None else np.concatenate(ties)
    ),
    integrality=np.ones(len(owners)),
    bounds=Bounds(0, 1),
    constraints=constraints,
    options={'mip_rel_gap': 0.0, 'node_limit': _NODES, 'time_limit': _SECONDS},
  )
  if result.x is None:
    return None
  if result.status == _AT_A_LIMIT:
    say(
      f'choice  the best for {len(sizes)} parts was not proved in {_NODES:,} nodes or {_SECONDS:.0f} '
      f's: the best that was found is taken, at most {100 * result.mip_gap:.2g} % from it'
    )
  return np.array([int(np.argmax(part)) for part in np.split(result.x, starts[1:-1])])


def _goal(losses: np.ndarray, ties: np.ndarray) -> np.ndarray:
  """Losses scaled to at most 1e6, and a little for what ties are broken by."""
  worst, most = (max(float(np.abs(one).max()), 1e-30) for one in (losses, ties))
  return _SCALE * (losses / worst + _TIE * ties / most)
