"""Channel exploration (Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression").

Pure functions over W, [fan-in, channels]: a layer's weights with a column for each channel. They work
on the Gram matrix W^T W, which is small and has the right singular vectors of W.
"""

from __future__ import annotations

import math

import numpy as np

_LEAST = 1e-8  # Of the largest eigenvalue: what is below it is numerical noise.


def leverage_scores(gram: np.ndarray, rank: int) -> np.ndarray:
  """Statistical leverage of each column, [channels]: how much of W's main directions depends on it.

  psi_j = ||[V_k]_j||^2 with V_k the first k right singular vectors of W (section 3.1, eq. 3).

  Args:
    gram: W^T W, [channels, channels].
    rank: k, the number of channels that will stay.
  """
  _, vectors = np.linalg.eigh(gram)
  main = vectors[:, vectors.shape[1] - rank :]
  return (main**2).sum(axis=1)


def residuals(gram: np.ndarray, kept: np.ndarray) -> np.ndarray:
  """How far each column lies outside the span of the kept ones, ||w_j - P w_j||, [channels].

  P projects on the columns that stay (section 3.2, eq. 5); zero for those themselves.

  Args:
    gram: W^T W, [channels, channels].
    kept: bool array [channels].
  """
  inner = gram[np.ix_(kept, kept)]
  if not inner.size:
    return np.sqrt(np.maximum(np.diag(gram), 0.0))
  values, vectors = np.linalg.eigh(inner)
  firm = values > _LEAST * max(values.max(), 0.0)
  basis = vectors[:, firm] / np.sqrt(values[firm])
  explained = ((gram[:, kept] @ basis) ** 2).sum(axis=1)
  left = np.maximum(np.diag(gram) - explained, 0.0)
  return np.where(kept, 0.0, np.sqrt(left))


def regrown_fraction(first: float, progress: float) -> float:
  """Fraction of the channels that regrow: delta_0 * (1 + cos(pi * t / T)) / 2 (eq. 6).

  Args:
    first: delta_0.
    progress: t / T, in [0, 1].
  """
  return first * (1.0 + math.cos(math.pi * min(progress, 1.0))) / 2.0


def sampled(weights: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
  """Draws channels without replacement by the softmax of their weights, int array [number].

  Args:
    weights: [channels]; -inf for those that cannot be drawn.
    number: at most as many as can be drawn.
    rng: the source of randomness.
  """
  able = np.flatnonzero(weights > -np.inf)
  number = min(number, len(able))
  if not number:
    return np.zeros(0, int)
  # The highest of weights with Gumbel noise are such a draw.
  noisy = weights[able] + rng.gumbel(size=len(able))
  return np.sort(able[np.argsort(-noisy, kind='stable')[:number]])


def event_steps(nb_steps: int, every: int, until: float) -> list[int]:
  """Training steps after which the structure changes.

  Args:
    nb_steps: of the whole training.
    every: steps between two events.
    until: fraction of the training after which the structure is final; an event falls there.
  """
  last = max(round(until * nb_steps), 1)
  return sorted({*range(every, last, every), last})


def random_widths(
  sizes: dict[str, int], fraction: float, rng: np.random.Generator
) -> dict[str, int]:
  """Widths of a first sub-model at random: on average a fraction of the channels of each layer.

  Args:
    sizes: channels of each unit, by name.
    fraction: of all channels that stay on average.
    rng: the source of randomness.
  """
  spread = min(fraction, 1.0 - fraction)
  return {
    name: max(round(size * rng.uniform(fraction - spread, fraction + spread)), 1)
    for name, size in sizes.items()
  }
