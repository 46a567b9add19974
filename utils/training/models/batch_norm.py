"""Statistics of batch normalisation, re-estimated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.graph import count
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.models.weights import leaf_layers

_SAMPLES, _FEWEST, _MACS, _BATCH = 1280, 64, 500e9, 64


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
  """The layers of batch normalisation whose statistics move: frozen ones keep theirs."""
  return [
    layer
    for layer in leaf_layers(model)
    if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
  ]


@contextlib.contextmanager
def averaging_slower(model: keras.Model, factor: int) -> Iterator[None]:
  """Has moving averages move by 1 / factor as much, for steps that update them `factor` times.

  With momentum m the old value keeps the weight m^(1/factor) in each update, so m after all of them.
  Only what is traced inside the block is affected.
  """
  norms = batch_norms(model) if factor > 1 else []
  momenta = [layer.momentum for layer in norms]
  try:
    for layer in norms:
      layer.momentum **= 1 / factor
    yield
  finally:
    for layer, momentum in zip(norms, momenta, strict=True):
      layer.momentum = momentum


def batches_for(model: keras.Model, available: int) -> tuple[int, int]:
  """How many batches, of how many samples, statistics are re-estimated over between steps of a run.

  1,280 samples in all, but not more than there are, nor more than 500 G MACs take, and at least 64:
  each gives as many values as its maps have positions.

  Args:
    model: whose statistics they are.
    available: training samples.

  Returns:
    (batches, samples of each); a batch has at most 64, fewer where their maps take over 256 MB.
  """
  affordable = max(int(_MACS // max(count(model).macs, 1)), _FEWEST)
  number = max(min(_SAMPLES, affordable, available), 1)
  size = min(inference_batch(flatten_model(model), _BATCH), number)
  return -(-number // size), size


def reestimate(model: keras.Model, batches: Iterable[tf.Tensor | np.ndarray]) -> None:
  """Sets moving means and variances to the mean of those of some batches.

  Frozen layers keep theirs. The others see batches normalised by the batch itself, as in training;
  batch number i (from zero) enters with momentum i / (i + 1), so that all count equally. Nothing else
  of the model changes. With several processes each gives its own batches, and all get the mean over
  everyone's.

  Args:
    model: any model; without batch normalisation nothing happens.
    batches: images [n, h, w, c].
  """
  norms = batch_norms(model)
  if not norms:
    return
  momenta = [layer.momentum for layer in norms]
  nb_batches = 0
  try:
    for number, images in enumerate(batches):
      nb_batches += 1
      for layer in norms:
        layer.momentum = number / (number + 1)
      model(images, training=True)
  finally:
    for layer, momentum in zip(norms, momenta, strict=True):
      layer.momentum = momentum
  moving = [v for layer in norms for v in (layer.moving_mean, layer.moving_variance)]
  distributed.mean_variables(moving, nb_batches)
