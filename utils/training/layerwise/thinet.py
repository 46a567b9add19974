"""ThiNet's greedy choices among the channels that a layer reads, and its scalars (Luo et al. 2017).

Both work on the moments of the channels' contributions Z_c to the layer's outputs Y = sum_c Z_c: the
inner products gram = <Z_i, Z_j> and cross = <Z_i, Y>, so that samples are never held.
"""

from __future__ import annotations

import numpy as np

_DEAD = 1e-10


def removed_first(gram: np.ndarray, nb_drop: int) -> np.ndarray:
  """Channels in the order in which they are removed, [nb_drop].

  Grows the set T of removed channels by the one for which ||sum over T of Z_c||^2 is least (Luo et al.
  2017, arXiv:1707.06342, equation 6 and algorithm 1): what goes should sum up to nothing.

  Args:
    gram: [c, c].
    nb_drop: how many go.
  """
  left = np.ones(len(gram), bool)
  order, mixed = [], np.zeros(len(gram))
  for _ in range(nb_drop):
    rises = np.where(left, np.diag(gram) + 2 * mixed, np.inf)
    worst = int(np.argmin(rises))
    left[worst] = False
    order.append(worst)
    mixed += gram[:, worst]
  return np.array(order, int)


def kept_first(gram: np.ndarray, cross: np.ndarray, nb_keep: int) -> np.ndarray:
  """Channels in the order in which they are taken, [nb_keep].

  Grows the set of kept channels by the one that leaves the least residual of Y after a scalar for each
  of them is fit by least squares (Luo et al. 2019, TPAMI). A step is one elimination of the chosen
  channel from all others, so that no system is solved again.

  Args:
    gram: [c, c].
    cross: [c].
    nb_keep: how many stay.
  """
  rest, target = gram.astype(np.float64).copy(), cross.astype(np.float64).copy()
  floor = _DEAD * max(float(np.diag(gram).max(initial=0.0)), _DEAD)
  left = np.ones(len(gram), bool)
  order = []
  for _ in range(nb_keep):
    energy = np.diag(rest)
    gains = np.divide(target**2, energy, out=np.zeros_like(target), where=energy > floor)
    chosen = int(np.argmax(np.where(left, gains, -1.0)))
    left[chosen] = False
    order.append(chosen)
    if energy[chosen] > floor:
      column, scale = rest[:, chosen].copy(), energy[chosen]
      target -= column * (target[chosen] / scale)
      rest -= np.outer(column, column) / scale
  return np.array(order, int)


def scalars(gram: np.ndarray, cross: np.ndarray, keep: np.ndarray, ridge: float) -> np.ndarray:
  """A factor for each channel, [c]: the best ones in least squares where kept, else 0.

  Minimises ||Y - sum_c s_c Z_c||^2 + r ||s - 1||^2 with r = ridge * mean(diag(gram)): what the samples
  do not decide stays as it is.

  Args:
    gram: [c, c].
    cross: [c].
    keep: bool array [c].
    ridge: relative strength of the penalty, at least 0.
  """
  found = np.zeros(len(gram))
  kept = gram[np.ix_(keep, keep)].astype(np.float64)
  if kept.size:
    strength = max(ridge * float(np.trace(kept)) / len(kept), _DEAD)
    shifted = kept + strength * np.eye(len(kept))
    found[keep] = np.linalg.solve(shifted, cross[keep] + strength)
  return found
