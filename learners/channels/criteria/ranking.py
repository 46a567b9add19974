"""From scores of channels to keys by which they are ranked: pure functions.

A key is a number of which the greater stays. Keys of different units can be compared: `global` sorts
those of the whole network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from secateurs.utils.errors import UserError

ORDERS = ('best', 'reverse', 'edge')
_UNITS = {
  'none': lambda scores: 1.0,
  'mean': lambda scores: np.abs(scores).mean(),
  'l2': lambda scores: np.sqrt((scores**2).sum()),
}
NORMALIZATIONS: Mapping[str, Callable[[np.ndarray], float]] = _UNITS


def normalized(scores: np.ndarray, how: str) -> np.ndarray:
  """Scores [c] of a layer in units of that layer, so that layers can be compared.

  Args:
    scores: of the layer's channels.
    how: `none`; `mean`: divided by the mean of their magnitudes; `l2`: divided by their Euclidean
      norm (Molchanov et al. 2017, section 2.2).
  """
  unit = NORMALIZATIONS[how](scores)
  return scores / unit if unit else scores.astype(float)


def removal_order(scores: np.ndarray, order: str) -> np.ndarray:
  """Channels [c] in the order in which they go; of equal ones the last goes first.

  Args:
    scores: [c], higher is worth more.
    order: `best`: the lowest first; `reverse`: the highest first; `edge`: the lowest, the highest, the
      second lowest, ... (the three variants of Lin et al. 2020, figure 4).
  """
  falling = np.argsort(-scores, kind='stable')
  if order == 'best':
    return falling[::-1]
  if order == 'reverse':
    return np.argsort(scores, kind='stable')[::-1]
  ends = np.empty_like(falling)
  half = (len(scores) + 1) // 2
  ends[0::2], ends[1::2] = falling[::-1][:half], falling[: len(scores) - half]
  return ends


def keys(scores: np.ndarray, order: str) -> np.ndarray:
  """Keys [c] of a layer's channels from its (normalised) scores.

  `best` keeps the scores and `reverse` their negatives. `edge` has no scale that could be compared: a
  channel's key is its place in `removal_order`, as a fraction of the layer.
  """
  if order == 'best':
    return scores.astype(float)
  if order == 'reverse':
    return -scores.astype(float)
  found = np.empty(len(scores))
  found[removal_order(scores, order)] = np.arange(len(scores)) / len(scores)
  return found


def best(scores: np.ndarray, nb_keep: int) -> np.ndarray:
  """Bool array [c] of the `nb_keep` highest scores; of equal ones the first stay."""
  keep = np.zeros(len(scores), bool)
  keep[np.argsort(-scores, kind='stable')[:nb_keep]] = True
  return keep


def with_fate(given: np.ndarray, stays: np.ndarray, gone: np.ndarray) -> np.ndarray:
  """Keys [c] with +inf where a channel must stay and -inf where it has gone already.

  Raises:
    UserError: a key is not a finite number.
  """
  if not np.isfinite(given).all():
    raise UserError(
      f'{int((~np.isfinite(given)).sum())} of {len(given)} scores are not finite numbers: check the '
      'data and the loss for NaN.'
    )
  return np.where(stays, np.inf, np.where(gone, -np.inf, given))
