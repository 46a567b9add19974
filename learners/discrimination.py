"""Blocks of a network, and the auxiliary branches that tell how well a block discriminates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras
from sklearn.linear_model import LogisticRegression

from secateurs.learners.channel_units import Unit
from secateurs.utils.graph.flat.cuts import calls_between, even_necks, first_calls, run_calls
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.training.criteria import Criteria
from secateurs.utils.training.objectives import Classification

L = keras.layers
_BN_MOMENTUM = 0.9  # Block-wise training may be no more than some tens of steps.
_BATCH = 128
_LEAST_SPREAD = 1e-2  # Of a pooled normalised map; less is what rounding leaves of a dead one.
_INVERSE_PENALTY, _TOLERANCE = 1.0, 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
  """Consecutive layers with one discrimination-aware loss.

  Attributes:
    number: from 1.
    begin: index of its first call.
    end: index behind its last one.
    tensor: number of its output, which its auxiliary branch reads; None for the last block.
    units: what is pruned in it: units of which the first reader lies in it.
  """

  number: int
  begin: int
  end: int
  tensor: int | None
  units: list[Unit]


def find_blocks(flat: FlatModel, nb_stages: int, units: list[Unit]) -> list[Block]:
  """Divides a network into `nb_stages + 1` blocks of nearly as many convolutions each.

  Returns:
    The blocks, fewer where the network has not as many convolutions that one tensor parts.
  """
  first = first_calls(flat)
  cuts = even_necks(flat, nb_stages)
  bounds = [0, *(cut.position for cut in cuts), len(flat.calls)]
  tensors = [*(cut.tensor for cut in cuts), None]
  return [
    Block(
      number + 1,
      bounds[number],
      bounds[number + 1],
      tensor,
      [unit for unit in units if bounds[number] <= first[unit.readers[0]] < bounds[number + 1]],
    )
    for number, tensor in enumerate(tensors)
  ]


def make_branch(shape: tuple, nb_classes: int, name: str, seed: int) -> keras.Model:
  """An auxiliary branch: BN, ReLU, global average pooling and a linear layer that gives logits.

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


def start_branch(branch: keras.Model, maps: np.ndarray, labels: np.ndarray) -> None:
  """Gives a new branch the weights that suit a block as it is, so that training need not find them.

  Normalisation takes the mean and variance of the maps, the linear layer is fit by logistic
  regression to what it then receives; it stays as it is where all images are of one class.

  Args:
    branch: from `make_branch`.
    maps: the block's output [n, h, w, c] for some images.
    labels: their labels [n].
  """
  norm, linear = branch.get_layer('norm'), branch.get_layer('logits')
  axes = tuple(range(maps.ndim - 1))
  norm.moving_mean.assign(maps.mean(axes, np.float64))
  norm.moving_variance.assign(maps.var(axes, np.float64))
  if len(np.unique(labels)) < 2:
    return
  pooled = keras.Model(branch.input, linear.input).predict(maps, batch_size=_BATCH, verbose=0)
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


class BlockObjective:
  """L_p + L: what block-wise fine-tuning minimises; for the last block L alone.

  L is the objective of fine-tuning, distillation included; L_p the loss from the labels
  (cross-entropy, if the user gave no other) at the block's branch. Deviation from the paper, as the
  document has it: one step on the sum, not one on each.
  """

  def __init__(
    self,
    flat: FlatModel,
    block: Block,
    branch: keras.Model | None,
    classification: Classification,
  ) -> None:
    self._flat, self._block, self._branch = flat, block, branch
    self._classification = classification
    names = tuple(classification.metric_names)
    self.metric_names = names if branch is None else (*names, 'loss_block')

  def __call__(self, batch: tuple) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Loss and metrics of a batch of (images, labels) in training mode."""
    flat = self._flat
    ((number, _),) = flat.inputs
    images = tf.cast(batch[0], flat.dtypes[number])
    values = run_calls(flat.calls, {number: images}, training=True)
    loss, metrics = self._classification.of(values[flat.outputs[0]], batch)
    if self._branch is not None:
      logits = self._branch(tf.cast(values[self._block.tensor], tf.float32), training=True)
      metrics['loss_block'] = self._classification.criteria.loss(batch[1], logits)
      loss += metrics['loss_block']
    return loss, metrics


class LayerObjective:
  """L^(R) + L_p of the part of a network between a cut and the end of a block, in inference mode.

  L^(R) = sum over the layers to prune of ||Y - Y0||^2 / 2Q, with Y what a layer gives now, Y0 what
  it gave in the original network, and Q the number of values (Zhuang et al. 2018, eq. 3; for one
  layer, as there). A batch is an int32 vector of places in the cached tensors.
  """

  metric_names = ('loss_reconstruction', 'loss_discrimination')

  def __init__(
    self,
    flat: FlatModel,
    position: int,
    end: int,
    branch: keras.Model | None,
    given: Mapping[int, tf.Tensor],
    targets: Mapping[int, tf.Tensor],
    labels: tf.Tensor,
    criteria: Criteria | None = None,
  ) -> None:
    """Sets up the part.

    Args:
      flat: the network that is being pruned.
      position: calls before the cut.
      end: number of the tensor that L_p is computed from.
      branch: makes logits of it; None if it holds logits itself.
      given: all tensors that cross the cut, [n, ...] by number.
      targets: what the layers' outputs should be, [n, ...] by number.
      labels: int32 [n].
      criteria: gives L_p from labels and logits; default: cross-entropy.
    """
    self._criteria = criteria or Criteria()
    self._calls = calls_between(flat, position, [end, *targets])
    self._end, self._branch = end, branch
    read = {number for call in self._calls for number in call.inputs}
    self._given = {number: tensor for number, tensor in given.items() if number in read}
    self._dtypes = flat.dtypes
    self._targets, self._labels = dict(targets), labels

  def __call__(self, batch: tf.Tensor) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Loss, and its two parts."""
    given = {
      number: tf.cast(tf.gather(tensor, batch), self._dtypes[number])
      for number, tensor in self._given.items()
    }
    values = run_calls(self._calls, given)
    reconstruction = tf.constant(0.0)
    for number, target in self._targets.items():
      wanted = tf.cast(tf.gather(target, batch), tf.float32)
      error = tf.cast(values[number], tf.float32) - wanted
      reconstruction += 0.5 * tf.reduce_mean(tf.square(error))
    logits = tf.cast(values[self._end], tf.float32)
    if self._branch is not None:
      logits = self._branch(logits, training=False)
    discrimination = self._criteria.loss(tf.gather(self._labels, batch), logits)
    metrics = {
      'loss_reconstruction': reconstruction,
      'loss_discrimination': discrimination,
    }
    return reconstruction + discrimination, metrics
