"""Auxiliary heads: how much a feature map says about what the network should give.

Zhuang et al. 2018, "Discrimination-aware Channel Pruning for Deep Neural Networks", section 3.2: BN,
ReLU, global average pooling and a linear layer. Deviations: heads start from a regression on the maps
as they are, not at random; where the network gives something for each position there is no pooling,
and the linear layer's maps are resized to the output's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf
import tf_keras as keras
from sklearn.linear_model import Ridge

from secateurs.utils.training.tasks.softmax_regression import softmax_regression

L = keras.layers
_BN_MOMENTUM = 0.9  # Block-wise training may be no more than some tens of steps.
_BATCH = 32
_LEAST_SPREAD = 1e-2  # Of a pooled normalised map; less is what rounding leaves of a dead one.
_INVERSE_PENALTY, _RIDGE = 1.0, 1e-2
_MAX_ROWS = 20_000  # That a start is fit to.
_POOLS = {3: L.GlobalAveragePooling1D, 4: L.GlobalAveragePooling2D, 5: L.GlobalAveragePooling3D}


class Rows(Protocol):
  """Samples that slices are read of: an array, or feature maps that are kept elsewhere."""

  def __len__(self) -> int:
    """How many there are."""

  def __getitem__(self, rows: slice) -> np.ndarray:
    """Some of them, [m, ...]."""


def make_head(
  shape: Sequence[int | None], output_shape: Sequence[int], name: str, seed: int
) -> keras.Model:
  """An auxiliary head: BN, ReLU, global average pooling and a linear layer.

  Args:
    shape: of the block's output, batch first.
    output_shape: of what the network gives for a sample: (c,), (positions, c) or (h, w, c).
    name: of the model.
    seed: of the linear layer's weights.
  """
  inputs = x = L.Input(shape[1:])
  x = L.BatchNormalization(momentum=_BN_MOMENTUM, dtype='float32', name='norm')(x)
  x = L.ReLU(dtype='float32')(x)
  dense = len(output_shape) > 1 and len(shape) == len(output_shape) + 1
  if not dense and len(shape) in _POOLS:
    x = _POOLS[len(shape)](dtype='float32')(x)
  start = keras.initializers.GlorotUniform(seed)
  nb = output_shape[-1] if dense else int(np.prod(output_shape))
  x = L.Dense(nb, kernel_initializer=start, dtype='float32', name='logits')(x)
  if dense and tuple(shape[1:-1]) != tuple(output_shape[:-1]):
    x = _resized(x, output_shape)
  elif not dense and len(output_shape) > 1:
    x = L.Reshape(tuple(output_shape), dtype='float32')(x)
  return keras.Model(inputs, x, name=name)


def _resized(x: tf.Tensor, output_shape: Sequence[int]) -> tf.Tensor:
  """Maps [n, h, w, c], or rows [n, t, c], of the size of an output."""
  if len(output_shape) == 3:
    return L.Resizing(*output_shape[:2], dtype='float32')(x)
  x = L.Reshape((x.shape[1], 1, x.shape[2]), dtype='float32')(x)
  x = L.Resizing(output_shape[0], 1, dtype='float32')(x)
  return L.Reshape(tuple(output_shape), dtype='float32')(x)


def start_head(head: keras.Model, maps: Rows, targets: np.ndarray, *, classes: bool = True) -> None:
  """Gives a new head the weights that suit a block as it is, so that training need not find them.

  Normalisation takes the mean and variance of the maps, the linear layer is fit by logistic (or
  linear) regression to what it then receives; what is the same for all samples is not fit.

  Args:
    head: from `make_head`.
    maps: the block's output [n, ..., c] for some samples; it is read some rows at a time.
    targets: class numbers [n] or [n, ...], or numbers for each output [n, ..., outputs].
    classes: whether targets are classes, or yes and no for each output; else they are numbers.
  """
  if not len(maps):  # A process may have no sample.
    return
  norm, linear = head.get_layer('norm'), head.get_layer('logits')
  fit_norm(norm, maps)
  before = keras.Model(head.input, linear.input)
  read = np.concatenate(
    [before(np.asarray(maps[p], np.float32), training=False).numpy() for p in _parts(maps)]
  )
  rows, wanted = _rows(read, targets, int(linear.kernel.shape[-1]), classes)
  mean, size = rows.mean(axis=0), np.maximum(rows.std(axis=0), _LEAST_SPREAD)
  found = _fit((rows - mean) / size, wanted, linear, classes)
  if found is None:
    return
  kernel, bias = found
  kernel = kernel / size[:, None]
  linear.kernel.assign(kernel)
  linear.bias.assign(bias - mean @ kernel)


def fit_norm(norm: L.BatchNormalization, maps: Rows) -> None:
  """Gives normalisation the mean and variance of maps [n, ..., c], some rows at a time."""
  count, total, squares = 0, 0.0, 0.0
  for part in _parts(maps):
    rows = np.asarray(maps[part], np.float32)
    rows = rows.reshape(-1, rows.shape[-1])
    count += len(rows)
    total = total + rows.sum(axis=0, dtype=np.float64)
    squares = squares + np.einsum('ij,ij->j', rows, rows, dtype=np.float64)
  mean = total / count
  norm.moving_mean.assign(mean)
  norm.moving_variance.assign(np.maximum(squares / count - mean**2, 0.0))


def _parts(maps: Rows) -> list[slice]:
  return [slice(first, first + _BATCH) for first in range(0, len(maps), _BATCH)]


def _rows(
  read: np.ndarray, targets: np.ndarray, nb_outputs: int, classes: bool
) -> tuple[np.ndarray, np.ndarray]:
  """What the linear layer reads as rows [r, c], and targets [r] or [r, outputs] for them."""
  if read.ndim == 2:
    classified = targets.ndim == 1
    return read, targets if classified else targets.reshape(len(targets), -1)
  per_class = targets.ndim == read.ndim - 1
  values = targets[..., None] if per_class else targets
  places = [
    np.arange(size) * values.shape[axis] // size for axis, size in enumerate(read.shape[1:-1], 1)
  ]
  values = values[np.ix_(np.arange(len(values)), *places)]  # The nearest position.
  rows, values = read.reshape(-1, read.shape[-1]), values.reshape(-1, values.shape[-1])
  step = -(-len(rows) // _MAX_ROWS)
  rows, values = rows[::step], values[::step]
  if per_class and classes:
    known = (values[:, 0] >= 0) & (values[:, 0] < max(nb_outputs, 2))
    rows, values = rows[known], values[known]
    if nb_outputs > 1:
      values = values[:, 0]
  return rows, values


def _fit(
  rows: np.ndarray, wanted: np.ndarray, linear: L.Dense, classes: bool
) -> tuple[np.ndarray, np.ndarray] | None:
  """Kernel and bias on standardised rows; None where nothing distinguishes the samples."""
  kernel, bias = np.zeros(linear.kernel.shape), np.zeros(linear.bias.shape)
  if not classes:
    found = Ridge(_RIDGE * len(rows)).fit(rows, wanted)
    return np.atleast_2d(found.coef_).T, np.atleast_1d(found.intercept_)
  if wanted.ndim == 1:
    known, numbers = np.unique(wanted, return_inverse=True)
    if len(known) < 2:
      return None
    weights, intercepts = _logistic(rows, numbers)
    bias[:] = intercepts.min()
    kernel[:, known], bias[known] = weights, intercepts
    return kernel, bias
  for column in range(wanted.shape[1]):  # A sigmoid each.
    labels = wanted[:, column] > 0.5
    if labels.any() and not labels.all():
      weights, intercepts = _logistic(rows, labels.astype(int))
      kernel[:, column], bias[column] = weights @ [-1, 1], intercepts @ [-1, 1]
  return kernel, bias


def _logistic(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Kernel [c, classes] and bias; of two classes the difference of both counts in the penalty."""
  two = labels.max() == 1
  return softmax_regression(rows, labels, _INVERSE_PENALTY / 2 if two else _INVERSE_PENALTY)
