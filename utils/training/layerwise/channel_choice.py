"""Which input channels a linear layer can do without: pure functions of its normal equations.

A layer computes Y = sum_i Z_i with Z_i = X_i W_i, the contribution of input channel i [n, q]. All that
LASSO over the channels needs follows from the moments of X and Y in closed form: with M = W S W^T,

  <Z_i, Z_j> = sum of (X_i^T X_j) * M[i, j],   <Z_i, Y> = sum of (X_i^T Y) * (W S)_i

so the samples are never held. S weighs the outputs. Channels that several layers read are chosen for
all of them at once: their sums are added, each divided by its layer's energy.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from secateurs.utils.training.layerwise.elimination import backward_order
from secateurs.utils.training.layerwise.least_squares import refit
from secateurs.utils.training.layerwise.readers import Reader
from secateurs.utils.training.layerwise.thinet import kept_first, removed_first

SELECTIONS = ('lasso', 'backward', 'thinet', 'thinet-ls', 'magnitude', 'random')
_DEAD = 1e-12
_GROWTH = 1.5
_FIRST_PENALTY = 1e-4
_MAX_ROUNDS = 10


@dataclasses.dataclass(frozen=True)
class ChannelMoments:
  """The LASSO problem over channels: minimise beta^T gram beta - 2 cross^T beta, c = channels.

  Attributes:
    gram: [c, c], inner products of the channels' contributions.
    cross: [c], inner products with the target.
    norms: [c], Frobenius norms of the channels' weights.
  """

  gram: np.ndarray
  cross: np.ndarray
  norms: np.ndarray

  def normalized(self) -> ChannelMoments:
    """The same problem with every channel's weights scaled to norm one."""
    inverse = np.where(self.norms > 0, 1 / np.where(self.norms > 0, self.norms, 1), 0.0)
    return ChannelMoments(
      self.gram * np.outer(inverse, inverse), self.cross * inverse, np.ones_like(self.norms)
    )


def channel_moments(readers: Sequence[Reader], nb_channels: int) -> ChannelMoments:
  """Sums up the readers' problems."""
  gram, cross = np.zeros((nb_channels, nb_channels)), np.zeros(nb_channels)
  squares = np.zeros(nb_channels)
  for reader in readers:
    scaled = reader.weights * reader.scale
    inner = reader.moments.gram * (scaled @ scaled.T)
    rows = np.einsum('ij,ij->i', reader.moments.cross * reader.scale, scaled)
    member = np.zeros((nb_channels, len(reader.owner)))
    member[reader.owner, np.arange(len(reader.owner))] = 1
    gram += member @ inner @ member.T / reader.total
    cross += member @ rows / reader.total
    squares += member @ (reader.weights**2).sum(axis=1)
  return ChannelMoments(gram, cross, np.sqrt(squares))


def lasso_path(problem: ChannelMoments) -> tuple[np.ndarray, np.ndarray]:
  """The whole LASSO path by LARS: alphas [k], falling, and coefficients [c, k].

  Minimises ||Y - sum_i beta_i Z_i||^2 / 2 + alpha sum_i |beta_i|.
  """
  from sklearn.linear_model import lars_path_gram

  alive = np.diag(problem.gram) > _DEAD * max(np.diag(problem.gram).max(), _DEAD)
  coefficients = np.zeros((len(alive), 1))
  if not alive.any():
    return np.zeros(1), coefficients
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Nearly equal channels are dropped, as they should be.
    alphas, _, path = lars_path_gram(
      problem.cross[alive].copy(),
      problem.gram[np.ix_(alive, alive)].copy(),
      n_samples=1,
      method='lasso',
    )
  coefficients = np.zeros((len(alive), len(alphas)))
  coefficients[alive] = path
  return alphas, coefficients


def lasso_keep(problem: ChannelMoments, nb_keep: int) -> np.ndarray:
  """Bool array [c] of exactly `nb_keep` channels, see `lasso_choice`."""
  return lasso_choice(problem, nb_keep)[0]


def lasso_choice(problem: ChannelMoments, nb_keep: int) -> tuple[np.ndarray, np.ndarray]:
  """Exactly `nb_keep` channels, the first set of that size on the path, and their coefficients.

  Where the path ends before (dead or nearly equal channels), those of the greatest energy fill up.

  Returns:
    (keep, beta): bool [c], and float [c] with zeros for channels that go.
  """
  alphas, path = lasso_path(problem)
  del alphas
  counts = (path != 0).sum(axis=0)
  reached = np.flatnonzero(counts >= nb_keep)
  column = path[:, reached[0]] if len(reached) else path[:, -1]
  strength = np.abs(column)
  energy = np.diag(problem.gram)
  order = np.lexsort((-energy, -strength))
  keep = np.zeros(len(energy), bool)
  keep[order[:nb_keep]] = True
  return keep, np.where(keep, column, 0.0)


def alternating_keep(
  readers: Sequence[Reader], nb_channels: int, nb_keep: int, ridge: float
) -> np.ndarray:
  """Bool array [nb_channels], see `alternating_choice`."""
  return alternating_choice(readers, nb_channels, nb_keep, ridge)[0]


def alternating_choice(
  readers: Sequence[Reader], nb_channels: int, nb_keep: int, ridge: float
) -> tuple[np.ndarray, list[Reader], np.ndarray]:
  """The document's first scheme: beta and W alternately while the penalty grows.

  For each penalty, beta is solved for given W, W refit over the channels with beta not zero, and
  W's channels scaled to norm one, until the number of channels is stable; the penalty grows until no
  more than `nb_keep` are left. The last step takes from its path the set of exactly that size.

  Returns:
    (keep, readers, beta): bool [nb_channels]; the readers with the weights W of the last round; and
    the coefficients of these weights, scaled to norm one, [nb_channels].
  """
  keep, beta = np.ones(nb_channels, bool), np.ones(nb_channels)
  current = list(readers)
  problem = channel_moments(current, nb_channels).normalized()
  penalty = _FIRST_PENALTY * float(np.abs(problem.cross).max())
  while keep.sum() > nb_keep:
    for _ in range(_MAX_ROUNDS):
      alphas, path = lasso_path(problem)
      beta = np.array([np.interp(-penalty, -alphas, row) for row in path]) * keep
      found = beta != 0
      if found.sum() <= nb_keep:
        chosen, exact = lasso_choice(problem, nb_keep)
        if chosen.sum() == nb_keep:
          return chosen, current, exact
        return found, current, beta
      if (found == keep).all():
        break
      keep = found
      current = [
        dataclasses.replace(r, weights=refit(r.moments, keep[r.owner], ridge)) for r in readers
      ]
      problem = channel_moments(current, nb_channels).normalized()
    penalty *= _GROWTH
  return keep, current, beta


def scaled_by_lasso(
  readers: Sequence[Reader], nb_channels: int, nb_keep: int, ridge: float, *, alternating: bool
) -> list[np.ndarray]:
  """The weights {beta_i W_i} that LASSO ends with, where nothing is refit after it.

  W_i has norm one (over all readers) in eq. 2; with the alternating scheme it is the last round's.

  Returns:
    For each reader its weights [p, q], zero for channels that go; as they are where none does.
  """
  if nb_keep >= nb_channels:
    return [reader.weights for reader in readers]
  current = list(readers)
  if alternating:
    _, current, beta = alternating_choice(readers, nb_channels, nb_keep, ridge)
    norms = channel_moments(current, nb_channels).norms
  else:
    problem = channel_moments(readers, nb_channels)
    norms, (_, beta) = problem.norms, lasso_choice(problem.normalized(), nb_keep)
  factors = beta / np.where(norms > 0, norms, 1.0)
  return [reader.weights * factors[reader.owner][:, None] for reader in current]


def choose(
  readers: Sequence[Reader],
  nb_channels: int,
  nb_keep: int,
  selection: str,
  *,
  ridge: float,
  rng: np.random.Generator,
  alternating: bool = False,
) -> np.ndarray:
  """Chooses channels.

  Args:
    readers: the layers that read them.
    nb_channels: how many there are.
    nb_keep: how many stay, in [1, nb_channels].
    selection: one of SELECTIONS.
    ridge: see `least_squares.solve`.
    rng: for `random`.
    alternating: for `lasso`, the alternating scheme.

  Returns:
    Bool array [nb_channels] with exactly `nb_keep` entries set.
  """
  keep = np.zeros(nb_channels, bool)
  if nb_keep >= nb_channels:
    return ~keep
  if selection == 'random':
    keep[rng.permutation(nb_channels)[:nb_keep]] = True
  elif selection == 'magnitude':
    keep[np.argsort(-magnitudes(readers, nb_channels), kind='stable')[:nb_keep]] = True
  elif selection == 'backward':
    order, _ = backward_order(readers, nb_channels, ridge, nb_channels - nb_keep)
    keep = ~np.isin(np.arange(nb_channels), order)
  elif selection == 'thinet':
    gram = channel_moments(readers, nb_channels).gram
    keep = ~np.isin(np.arange(nb_channels), removed_first(gram, nb_channels - nb_keep))
  elif selection == 'thinet-ls':
    problem = channel_moments(readers, nb_channels)
    keep[kept_first(problem.gram, problem.cross, nb_keep)] = True
  elif alternating:
    keep = alternating_keep(readers, nb_channels, nb_keep, ridge)
  else:
    keep = lasso_keep(channel_moments(readers, nb_channels).normalized(), nb_keep)
  return keep


def magnitudes(readers: Sequence[Reader], nb_channels: int) -> np.ndarray:
  """Sum of absolute weights that each channel meets, [nb_channels]."""
  total = np.zeros(nb_channels)
  for reader in readers:
    np.add.at(total, reader.owner, np.abs(reader.weights).sum(axis=1))
  return total
