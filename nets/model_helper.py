"""Ties a network, a data set and a training recipe together: all that a learner is handed."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.nets.compiled_loss import loss_of
from secateurs.nets.datasets.given import GivenData, Pair
from secateurs.nets.datasets.samples import class_notes, input_specs, labels_of
from secateurs.nets.datasets.source import ImageSource
from secateurs.nets.datasets.tasked import data_set_of
from secateurs.nets.datasets.texts import numbered
from secateurs.nets.given_task import Wanted, network_and_task, precision_notes
from secateurs.nets.kinds import given
from secateurs.nets.network import Weights, unchanged
from secateurs.nets.recipe import FOLDER_RECIPE, Recipe
from secateurs.utils.config import Config
from secateurs.utils.deploy import read_history
from secateurs.utils.graph.flat.subclassed import as_functional
from secateurs.utils.graph.slicing.classifier import classifying_part
from secateurs.utils.graph.slicing.endings import opened
from secateurs.utils.training.engine.callbacks import checked_callbacks
from secateurs.utils.training.models.weights import load_model, named_layers, named_weights
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.criteria import Criteria, Measure
from secateurs.utils.training.tasks.task import Task


class ModelHelper:
  """A network on a data set.

  Attributes:
    net: name of the network, such as `resnet20`.
    dataset: the data set.
    recipe: how it is usually trained.
    task: what is learned, and how it is judged.
    callbacks: tf_keras callbacks that training calls.
    configs: what network and data were made from, where flags gave it.
    own_notes: what the reader of a report must know beside the data's notes.
    keras3: whether the network came as a model of Keras 3, and its result goes out as one.
    unlabelled: whether the labels are the decisions of the original, because there were none.
  """

  def __init__(
    self,
    net: str,
    build: Callable[[], keras.Model],
    dataset: ImageSource,
    recipe: Recipe,
    own_weights: Callable[[Weights], Weights] = unchanged,
    task: Task | None = None,
  ) -> None:
    self.net, self.dataset, self.recipe = net, dataset, recipe
    self._build, self._own_weights = build, own_weights
    self.task: Task = Classification(dataset.nb_classes) if task is None else task
    self.own_notes: list[str] = []
    self.keras3 = self.unlabelled = False
    self.callbacks: Sequence[keras.callbacks.Callback] = ()
    self.configs: tuple[Config, ...] = ()
    self._history: list[dict[str, Any]] = []

  @classmethod
  def from_model(
    cls,
    model: keras.Model,
    train: ImageSource | Pair | tf.data.Dataset,
    evaluation: Pair | tf.data.Dataset | None = None,
    *,
    name: str | None = None,
    recipe: Recipe | None = None,
    shape: Any = None,
    history: list[dict[str, Any]] | None = None,
    output: str | None = None,
    task: Wanted = None,
    loss: Measure | None = None,
    metrics: Mapping[str, Measure] | None = None,
    loss_weights: Mapping[str, float] | None = None,
    judge: str | None = None,
    class_weight: Mapping[int, float] | None = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    layers: Mapping[Any, Any] | None = None,
    nb_smpls_val: int = 0,
  ) -> ModelHelper:
    """A trained model of the user's on the user's data, for any learner.

    The task follows from the model's last activation, the loss that it was compiled with, and the
    targets, where these are clear: docs/tasks.md has the rules.

    `loss` and `metrics` are functions of (targets, outputs), built of TensorFlow operations, that give
    one number for each sample, or one for the batch, which counts as the mean over its samples. Outputs
    are those before a softmax or sigmoid at the model's end: int32 [n] and float32 logits [n, c] for
    classification. Where the model ends in a softmax, its exported .tflite files are measured with the
    logarithms of their outputs: the logits except for a constant for each sample.

    `callbacks` are called in each phase that trains the network (full-prec's training, fine-tuning,
    pruning during training, block-wise training, quantisation-aware training): set_params with the name
    of the `phase`, set_model, on_train_begin, on_epoch_begin and on_epoch_end (logs: loss, accuracy,
    the metrics), on_train_end (logs: the last epoch's). Hooks for batches are not called, because steps
    run in one compiled loop. The model is not compiled; `stop_training` is reported but ignored. A
    phase that was interrupted calls them again when it is resumed, with the epoch's number. Of several
    processes the first one's are called.

    Args:
      model: of tf_keras or Keras 3, functional or Sequential, nested or not. It stays as it is. What it
        was compiled with is the default of the training after compression.
      train: (inputs, targets) or (inputs, targets, weights of samples) as arrays, or a tf.data.Dataset
        of such, in batches or not; as the model sees them, augmented if at all. Inputs and targets may
        be dictionaries by name. Or a whole data set of `nets.datasets`, without `evaluation`.
      evaluation: the same for evaluation.
      name: of the network; default: the model's.
      recipe: batch size, epochs and rates; default: those for image folders.
      shape: of a sample, such as (height, width, channels), where the model takes any size and the data
        does not say which; a tuple for each input where there are several.
      history: links of the chain of runs that it came out of.
      output: the only output of several that is used, by its name in `model.output_names`. The model is
        cut down to what this one needs: the others are neither trained nor exported.
      task: classification, binary, multi-label, regression or segmentation, or an object of
        `Task`; for several outputs one for each by name. Default: chosen.
      loss: takes the place of the task's, in every learner's training and in what is reported;
        distillation still comes on top. An object of tf_keras.losses will do.
      metrics: shown in training and measured before and after, by name.
      loss_weights: factors of the losses of several outputs, by name; default: 1.
      judge: output whose score judges, or `loss`; default: the first one.
      class_weight: how much samples of each class count in training, by class number.
      steps_per_epoch: batches of an epoch of a training pipeline; needed where it never ends.
      validation_steps: the same for evaluation.
      callbacks: objects of tf_keras.callbacks.Callback.
      layers: tf_keras classes for layer classes of your own in a model of Keras 3, see
        `utils.keras3.to_tf_keras`.
      nb_smpls_val: training samples that searches judge on, held out of arrays; -1: a fifth of them.

    Raises:
      UserError: the model cannot be opened up, the data does not fit it, or a function does not.
    """
    callbacks, taken = checked_callbacks(callbacks), given(model, layers)
    criteria = Criteria(loss, {**taken.compiled.metrics, **(metrics or {})})
    model, recipe = taken.model, taken.recipe(recipe or FOLDER_RECIPE)
    part = classifying_part(as_functional(model), output)
    if output is not None or len(getattr(part, 'outputs', None) or ()) == 1:
      train, evaluation = labels_of(train, output), labels_of(evaluation, output)
    train, evaluation, class_names = numbered(train, evaluation)
    network, chosen = network_and_task(
      part,
      train,
      wanted=task,
      criteria=criteria,
      loss=loss_of(model, output),
      loss_weights=loss_weights,
      judge=judge,
      shape=shape,
    )
    chosen.check()
    if evaluation is None:
      dataset = data_set_of(train, network, chosen)
    else:
      dataset = GivenData(
        train,
        evaluation,
        input_specs(network),
        chosen,
        steps_per_epoch=steps_per_epoch,
        validation_steps=validation_steps,
        class_weight=class_weight,
        nb_smpls_val=nb_smpls_val,
      )
    helper = GivenModelHelper(network, dataset, chosen, name or model.name, recipe)
    helper.callbacks, helper._history = callbacks, list(history or [])
    helper.keras3, helper.own_notes = taken.keras3, [*taken.notes, *precision_notes(part)]
    if isinstance(dataset, GivenData):
      helper.own_notes += class_notes(dataset.labels('train'), dataset.labels('eval'))
    if class_names is not None:
      helper.own_notes.append(f'Labels were numbered in sorted order: {", ".join(class_names)}.')
    return helper

  @property
  def name(self) -> str:
    """Network and data set, such as `resnet20_at_cifar10`."""
    return f'{self.net}_at_{self.dataset.name}'

  def build_model(self, seed: int) -> keras.Model:
    """Builds the network with new weights, the same for the same seed.

    Layers without a name of their own are numbered afresh, so that weights find them by name. Nested
    models are opened up where two of them have a layer of one name.
    """
    keras.utils.set_random_seed(seed)
    keras.backend.reset_uids()
    network = self._build()
    return opened(network) if _shares_names(network) else network

  def given_weights(self) -> dict[str, np.ndarray] | None:
    """Trained weights that the network came with, by name."""
    return None

  def history(self) -> list[dict[str, Any]]:
    """Links of the chain of runs that the network came out of, as reports hold them."""
    return self._history

  def identity(self) -> dict[str, str]:
    """What distinguishes this network from others of the same name, for resumed runs."""
    names, compiled = getattr(self.dataset, 'class_names', None), self.recipe.optimizer
    further = {} if names is None else {'classes': _listed(names)}
    if compiled is not None:
      further['optimizer'] = compiled.describe()
    return {**self.task.identity(), **further}

  def own_weights(self, weights: Weights) -> Weights:
    """Weights by the network's own names, from those of any source that it knows."""
    return self._own_weights(weights)

  def continued(self, path: Path) -> ModelHelper:
    """The same data, task and recipe with the network of an exported .keras file, and its history.

    Raises:
      UserError: the file is no model.
    """
    helper = self._with(self.task.trained(load_model(path)))
    helper._history = read_history(path)
    return helper

  def sketched(self, seed: int) -> ModelHelper:
    """The same with the network as if it had come trained: for estimates before it is."""
    return self._with(self.build_model(seed))

  def _with(self, network: keras.Model) -> GivenModelHelper:
    helper = GivenModelHelper(network, self.dataset, self.task, self.net, self.recipe)
    helper.callbacks, helper.configs = self.callbacks, self.configs
    helper.unlabelled = self.unlabelled
    return helper

  def notes(self) -> list[str]:
    """What the reader of a report must know of the data."""
    return [*self.dataset.notes(), *self.own_notes]

  def held_bytes(self) -> int:
    """What the samples take in memory; 0 where they are read when they are needed."""
    return getattr(self.dataset, 'nb_bytes', 0)

  def nb_samples(self, split: str) -> int:
    """Number of samples of split `train`, `val` or `eval`."""
    return self.dataset.nb_samples(split)

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: tuple[int, int] = (0, 1),
  ) -> tf.data.Dataset:
    """Endless training batches from step `start` on, for one of several processes."""
    return self.dataset.train_batches(batch_size, seed, start, augment=augment, shard=shard)

  def eval_batches(
    self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
  ) -> tf.data.Dataset:
    """Every sample of a split, or of a process's part of it, exactly once."""
    return self.dataset.eval_batches(split, batch_size, shard=shard)

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images as the network sees them, float32 [n, h, w, c]."""
    return self.dataset.calibration_images(nb_images)


def _shares_names(network: keras.Model) -> bool:
  """Whether several layers of nested models have one name."""
  return any(
    name != layer.name
    for name, layer in named_layers(network).items()
    if not isinstance(layer, keras.layers.InputLayer)
  )


def _listed(names: Sequence[str]) -> str:
  """Names of classes in their order: the first ones, and a checksum of all."""
  text = ','.join(names)
  return f'{text[:60]} ({zlib.crc32(text.encode()):08x})' if len(text) > 60 else text


class GivenModelHelper(ModelHelper):
  """A network that came with its trained weights; see `ModelHelper.from_model`."""

  def __init__(
    self,
    network: keras.Model,
    dataset: ImageSource,
    task: Task,
    name: str,
    recipe: Recipe | None,
  ) -> None:
    """`network`: what is trained, before a softmax or sigmoid at the model's end."""
    config = network.get_config()
    self._weights = {n: w.numpy() for n, w in named_weights(network).items()}

    def build() -> keras.Model:
      return type(network).from_config(copy.deepcopy(config))  # Some layers change it.

    super().__init__(name, build, dataset, recipe or FOLDER_RECIPE, task=task)

  def given_weights(self) -> dict[str, np.ndarray] | None:
    """The weights that the model came with."""
    return dict(self._weights)

  def identity(self) -> dict[str, str]:
    """A checksum of the weights, and the identity of the task."""
    checksum = 0
    for name, value in sorted(self._weights.items()):
      checksum = zlib.crc32(value.tobytes(), zlib.crc32(name.encode(), checksum))
    return {**super().identity(), 'weights': f'{checksum:08x}'}
