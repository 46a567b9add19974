"""Auxiliary heads of classifiers: how well a feature map separates classes.

Zhuang et al. 2018, "Discrimination-aware Channel Pruning for Deep Neural Networks", section 3.2: BN,
ReLU, global average pooling and a linear layer. Deviation: heads start from a logistic regression on
the maps as they are, not at random.
"""

from __future__ import annotations

import numpy as np
import tf_keras as keras
from sklearn.linear_model import LogisticRegression

L = keras.layers
_BN_MOMENTUM = 0.9  # Block-wise training may be no more than some tens of steps.
_BATCH = 128
_LEAST_SPREAD = 1e-2  # Of a pooled normalised map; less is what rounding leaves of a dead one.
_INVERSE_PENALTY, _TOLERANCE = 1.0, 1e-3


def make_head(shape: tuple, nb_classes: int, name: str, seed: int) -> keras.Model:
  """An auxiliary head: BN, ReLU, global average pooling and a linear layer that gives logits.

  Args:
    shape: of the block's output, batch first.
    nb_classes: number of logits.
    name: of the model.
    seed: of the linear layer's weights.
  """
  inputs = x = L.Input(shape[1:])
  x = L.BatchNormalization(momentum=_BN_MOMENTUM, dtype='float32', name='norm')(x)
  x = L.ReLU(dtype='float32')(x)
  x = L.GlobalAveragePooling2D(dtype='float32')(x)
  start = keras.initializers.GlorotUniform(seed)
  logits = L.Dense(nb_classes, kernel_initializer=start, dtype='float32', name='logits')(x)
  return keras.Model(inputs, logits, name=name)


def start_head(head: keras.Model, maps: np.ndarray, labels: np.ndarray) -> None:
  """Gives a new head the weights that suit a block as it is, so that training need not find them.

  Normalisation takes the mean and variance of the maps, the linear layer is fit by logistic
  regression to what it then receives; it stays as it is where all images are of one class.

  Args:
    head: from `make_head`.
    maps: the block's output [n, h, w, c] for some images.
    labels: their labels [n].
  """
  norm, linear = head.get_layer('norm'), head.get_layer('logits')
  axes = tuple(range(maps.ndim - 1))
  norm.moving_mean.assign(maps.mean(axes, np.float64))
  norm.moving_variance.assign(maps.var(axes, np.float64))
  if len(np.unique(labels)) < 2:
    return
  pooled = keras.Model(head.input, linear.input).predict(maps, batch_size=_BATCH, verbose=0)
  mean, size = pooled.mean(axis=0), np.maximum(pooled.std(axis=0), _LEAST_SPREAD)
  found = LogisticRegression(C=_INVERSE_PENALTY, tol=_TOLERANCE).fit((pooled - mean) / size, labels)
  intercepts = _per_class(found.intercept_)
  kernel, bias = np.zeros(linear.kernel.shape), np.full(linear.bias.shape, intercepts.min())
  kernel[:, found.classes_] = _per_class(found.coef_).T / size[:, None]
  bias[found.classes_] = intercepts
  bias -= mean @ kernel
  linear.kernel.assign(kernel)
  linear.bias.assign(bias)


def _per_class(values: np.ndarray) -> np.ndarray:
  """One row for each class; scikit-learn gives a single one for two classes."""
  return np.concatenate([-values, values]) / 2 if len(values) == 1 else values
