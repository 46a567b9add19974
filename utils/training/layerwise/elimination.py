"""Backward elimination of a linear layer's input channels, in the arithmetic of one matrix inverse.

Each time the channel goes whose loss, all others refit, is the least. With P the inverse of the Gram
matrix and W the least-squares weights of what is left, dropping the rows of channel i

  raises the squared error by tr(W_i^T (P_ii)^-1 W_i), and
  leaves P - F F^T and W - F V, where P_ii = L L^T, F = P_:i L^-T and V = L^-1 W_i,

so no system is solved again. Only the diagonal blocks of P are needed to choose the next channel: the
columns F are gathered and taken off the whole matrix many at a time, as one product of matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateurs.utils.training.layerwise.least_squares import cholesky, inverse_of
from secateurs.utils.training.layerwise.readers import Reader

_MAX_COLUMNS = 256
_LEAST_RIDGE = 1e-9


def backward_order(
  readers: Sequence[Reader], nb_channels: int, ridge: float, nb_drop: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """The order in which channels go.

  Args:
    readers: the layers that read them.
    nb_channels: how many there are, c.
    ridge: see `least_squares.solve`.
    nb_drop: how many go, d; default: all.

  Returns:
    (order, losses): the first d channels to go, [d], and the weighted mean squared error, summed
    over readers as shares of their energies, after 0, 1, ..., d of them have gone [d + 1].
  """
  states = [_Elimination(reader, nb_channels, ridge) for reader in readers]
  left = np.ones(nb_channels, bool)
  order, losses = [], [sum(state.loss for state in states)]
  for _ in range(nb_channels if nb_drop is None else nb_drop):
    candidates = np.flatnonzero(left)
    rises = sum(state.rises(candidates) for state in states)
    worst = candidates[int(np.argmin(rises))]
    left[worst] = False
    for state in states:
      state.drop(worst, left)
    order.append(worst)
    losses.append(losses[-1] + float(rises.min()))
  return np.array(order, int), np.array(losses)


class _Elimination:
  """One reader's inverse Gram matrix P and weights W while channels go.

  Rows are kept channel by channel, k to each; where channels have fewer, independent rows without
  weights fill up, which change nothing. W counts by W W^T only, so that wide layers are folded.

  Attributes:
    loss: share of the reader's energy that is lost while all channels stay.
  """

  def __init__(self, reader: Reader, nb_channels: int, ridge: float):
    gram, cross = reader.moments.gram, reader.moments.cross * reader.scale
    inverse = inverse_of(cholesky(gram, max(ridge, _LEAST_RIDGE))[0])
    weights = inverse @ cross
    self._total = reader.total
    explained = float(np.einsum('ij,ij->', weights, cross))
    self.loss = max(self._total - explained, 0.0) / self._total
    if weights.shape[1] > len(weights):
      weights = np.linalg.qr(weights.T, 'r').T
    sizes = np.bincount(reader.owner, minlength=nb_channels)
    self._k = k = int(sizes.max(initial=1))
    rows = np.full((nb_channels, k), -1)
    rows[np.arange(k) < sizes[:, None]] = np.argsort(reader.owner, kind='stable')
    self._inverse, self._weights = _padded(inverse, weights, rows.ravel())
    self._start(np.arange(nb_channels))

  def _start(self, channels: np.ndarray) -> None:
    """Continues with these channels, for whose rows the matrices stand."""
    k, size = self._k, len(self._inverse)
    self._place = {channel: i for i, channel in enumerate(channels)}
    self._channels = channels
    self._columns = np.zeros((size, max(_MAX_COLUMNS // k, 1) * k), order='F')
    self._nb_columns = 0
    blocks = self._inverse.reshape(len(channels), k, len(channels), k)
    every = np.arange(len(channels))
    self._diagonal = blocks[every, :, every, :]
    mine = self._weights.reshape(len(channels), k, -1)
    self._squares = mine @ mine.transpose(0, 2, 1)

  def rises(self, candidates: np.ndarray) -> np.ndarray:
    """What dropping each of the channels adds to the loss."""
    places = [self._place[c] for c in candidates]
    solved = np.linalg.solve(self._diagonal[places], self._squares[places])
    return np.trace(solved, axis1=1, axis2=2) / self._total

  def drop(self, channel: int, left: np.ndarray) -> None:
    """Removes a channel; `left` marks those that stay, bool [c]."""
    k, place = self._k, self._place[channel]
    mine = slice(place * k, (place + 1) * k)
    done = self._columns[:, : self._nb_columns]
    column = self._inverse[:, mine] - done @ done[mine].T
    inverse = np.linalg.inv(np.linalg.cholesky(column[mine]))  # Of L; both are tiny.
    factor, removed = column @ inverse.T, inverse @ self._weights[mine]
    # (W - F V)(W - F V)^T and P - F F^T, their diagonal blocks.
    blocks = factor.reshape(-1, k, k)
    turned = blocks.transpose(0, 2, 1)
    mixed = (self._weights @ removed.T).reshape(-1, k, k) @ turned
    self._squares -= mixed + mixed.transpose(0, 2, 1) - blocks @ (removed @ removed.T) @ turned
    self._diagonal -= blocks @ turned
    self._weights -= factor @ removed
    self._columns[:, self._nb_columns : self._nb_columns + k] = factor
    self._nb_columns += k
    if self._nb_columns == self._columns.shape[1] and left.any():
      self._compact(left)

  def _compact(self, left: np.ndarray) -> None:
    stay = left[self._channels]
    rows = np.repeat(stay, self._k)
    columns = self._columns[rows]
    inverse = self._inverse[np.ix_(rows, rows)]
    inverse -= columns @ columns.T
    self._inverse, self._weights = inverse, self._weights[rows]
    self._start(self._channels[stay])


def _padded(
  inverse: np.ndarray, weights: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Both in the order of `rows`, in which -1 stands for a row that fills up."""
  if (rows >= 0).all():
    return inverse[np.ix_(rows, rows)], weights[rows]
  real = np.flatnonzero(rows >= 0)
  wide, long = np.eye(len(rows)), np.zeros((len(rows), weights.shape[1]))
  wide[np.ix_(real, real)] = inverse[np.ix_(rows[real], rows[real])]
  long[real] = weights[rows[real]]
  return wide, long
