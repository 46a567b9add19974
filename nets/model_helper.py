"""Ties a network, a data set and a training recipe together: all that a learner is handed."""

from __future__ import annotations

import copy
import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.nets import densenet, detectors, lenet, lstm, mobilenet, resnet, ssd, vgg, xception
from secateurs.nets.compiled import CompiledOptimizer
from secateurs.nets.compiled_loss import loss_of
from secateurs.nets.datasets import (
  cifar10,
  coco,
  digit_scenes,
  digits,
  ilsvrc12,
  image_folder,
  voc,
)
from secateurs.nets.datasets.given import GivenData, Pair
from secateurs.nets.datasets.images import DataConfig, ImageSource
from secateurs.nets.datasets.samples import input_specs, labels_of
from secateurs.nets.datasets.tasked import data_set_of
from secateurs.nets.datasets.texts import numbered
from secateurs.nets.given_task import Wanted, network_and_task, precision_notes
from secateurs.nets.kinds import given
from secateurs.nets.network import Network, Weights, unchanged
from secateurs.utils.config import Config
from secateurs.utils.deploy import read_history
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.subclassed import as_functional
from secateurs.utils.graph.slicing.classifier import classifying_part
from secateurs.utils.training.engine.callbacks import checked_callbacks
from secateurs.utils.training.models.weights import load_model, named_weights
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.criteria import Criteria, Measure
from secateurs.utils.training.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a network is usually trained on a data set; flags override each part.

  Attributes:
    batch_size: samples of a step for which `lrn_rate` is stated.
    nb_epochs: length of the whole training.
    lrn_rate: initial learning rate.
    decay_epochs: where the rate is multiplied by `decay`.
    decay: factor at each of them.
    momentum: of SGD and Muon.
    weight_decay: factor of the L2 term over everything but BN.
    batch_size_eval: samples of an evaluation's batch.
    optimizer: that a model of the user's was compiled with, for the training after compression.
  """

  batch_size: int
  nb_epochs: int
  lrn_rate: float
  decay_epochs: tuple[float, ...]
  decay: float = 0.1
  momentum: float = 0.9
  weight_decay: float = 2e-4
  batch_size_eval: int = 500
  optimizer: CompiledOptimizer | None = None


CIFAR10_RECIPE = Recipe(128, 250, 0.1, (100, 150, 200))
DIGITS_RECIPE = Recipe(64, 40, 0.1, (20, 30))
RESNET_DIGITS_RECIPE = Recipe(64, 10, 0.1, (5, 8))
FOLDER_RECIPE = Recipe(32, 60, 0.025, (30, 45))
ILSVRC12_RECIPE = Recipe(
  256, 90, 0.1, (30, 60, 80), weight_decay=1e-4, batch_size_eval=100
)  # Goyal et al. 2017
ILSVRC12_MOBILE_RECIPE = Recipe(
  256, 300, 0.045, tuple(range(1, 300)), decay=0.98, weight_decay=4e-5, batch_size_eval=100
)  # Sandler et al. 2018, with SGD


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
    self.keras3 = False
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
    logarithms of their outputs: the logits but for a constant for each sample.

    `callbacks` are called in each phase that trains the network (full-prec's training, fine-tuning,
    pruning while training goes on, block-wise training, quantisation-aware training): set_params with
    the name of the `phase`, set_model, on_train_begin, on_epoch_begin and on_epoch_end (logs: loss,
    accuracy, the metrics), on_train_end (logs: the last epoch's). Hooks for batches are not called,
    because steps run in one compiled loop. The model is not compiled; a wish to stop training is
    reported but ignored. A phase that was interrupted calls them again when it is resumed, with the
    epoch's number. Of several processes the first one's are called.

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
    if class_names is not None:
      helper.own_notes.append(f'Labels were numbered in sorted order: {", ".join(class_names)}.')
    return helper

  @property
  def name(self) -> str:
    """Network and data set, such as `resnet20_at_cifar10`."""
    return f'{self.net}_at_{self.dataset.name}'

  def build_model(self, seed: int) -> keras.Model:
    """Builds the network with new weights, the same for the same seed.

    Layers without a name of their own are numbered afresh, so that weights find them by name.
    """
    keras.utils.set_random_seed(seed)
    keras.backend.reset_uids()
    return self._build()

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
    network = self.task.trained(load_model(path))
    helper = GivenModelHelper(network, self.dataset, self.task, self.net, self.recipe)
    helper.callbacks, helper.configs = self.callbacks, self.configs
    helper._history = read_history(path)
    return helper

  def notes(self) -> list[str]:
    """What the reader of a report must know of the data."""
    return [*self.dataset.notes(), *self.own_notes]

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


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What an entry script compresses: which flags it has, and how a helper is made from them.

  Attributes:
    name: network family and data set, such as `resnet_at_cifar10`.
    configs: config classes of the network and the data set.
    build: makes the helper from instances of these.
  """

  name: str
  configs: tuple[type[Config], ...]
  build: Callable[..., ModelHelper]

  def make(self, *values: Config) -> ModelHelper:
    """The helper, which remembers what it was made from: a resumed run must be given the same."""
    helper = self.build(*values)
    helper.configs = values
    return helper


def _experiment(
  name: str,
  network: Callable[..., Network],
  load: Callable[..., ImageSource],
  configs: tuple[type[Config], ...],
  recipe: Recipe,
) -> Experiment:
  """An experiment whose last config is that of the data set, and the others those of the network."""

  def build(*values: Config) -> ModelHelper:
    dataset, net = load(values[-1]), network(*values[:-1])
    new_model = functools.partial(net.build, dataset.image_shape, dataset.nb_classes)
    return ModelHelper(net.name, new_model, dataset, recipe, net.own_weights)

  return Experiment(name, configs, build)


RESNET_AT_CIFAR10 = _experiment(
  'resnet_at_cifar10',
  resnet.cifar_network,
  cifar10.load,
  (resnet.ResNetConfig, DataConfig),
  CIFAR10_RECIPE,
)
RESNET_AT_DIGITS = _experiment(
  'resnet_at_digits',
  resnet.cifar_network,
  digits.load,
  (resnet.ResNetConfig, DataConfig),
  RESNET_DIGITS_RECIPE,
)
RESNET_AT_IMAGE_FOLDER = _experiment(
  'resnet_at_image_folder',
  resnet.cifar_network,
  image_folder.load,
  (resnet.ResNetConfig, image_folder.ImageFolderConfig),
  FOLDER_RECIPE,
)
LENET_AT_DIGITS = _experiment(
  'lenet_at_digits',
  lenet.network,
  digits.load,
  (DataConfig,),
  dataclasses.replace(DIGITS_RECIPE, lrn_rate=0.02),
)
LSTM_AT_DIGITS = _experiment(
  'lstm_at_digits',
  lstm.network,
  digits.load,
  (lstm.LstmConfig, DataConfig),
  dataclasses.replace(DIGITS_RECIPE, lrn_rate=0.1),
)
LENET_AT_CIFAR10 = _experiment(
  'lenet_at_cifar10',
  lenet.network,
  cifar10.load,
  (DataConfig,),
  dataclasses.replace(CIFAR10_RECIPE, lrn_rate=0.02),
)
MOBILENET_AT_CIFAR10 = _experiment(
  'mobilenet_at_cifar10',
  mobilenet.cifar_network,
  cifar10.load,
  (mobilenet.MobileNetConfig, DataConfig),
  CIFAR10_RECIPE,
)
VGG_AT_CIFAR10 = _experiment(
  'vgg_at_cifar10',
  vgg.cifar_network,
  cifar10.load,
  (vgg.CifarVggConfig, DataConfig),
  dataclasses.replace(CIFAR10_RECIPE, lrn_rate=0.05, weight_decay=5e-4),
)
DENSENET_AT_CIFAR10 = _experiment(
  'densenet_at_cifar10',
  densenet.cifar_network,
  cifar10.load,
  (densenet.DenseNetConfig, DataConfig),
  dataclasses.replace(CIFAR10_RECIPE, batch_size=64, weight_decay=1e-4),
)
RESNET_AT_ILSVRC12 = _experiment(
  'resnet_at_ilsvrc12',
  resnet.imagenet_network,
  ilsvrc12.load,
  (resnet.ImagenetResNetConfig, ilsvrc12.Ilsvrc12Config),
  ILSVRC12_RECIPE,
)
MOBILENET_AT_ILSVRC12 = _experiment(
  'mobilenet_at_ilsvrc12',
  mobilenet.imagenet_network,
  ilsvrc12.load,
  (mobilenet.MobileNetConfig, ilsvrc12.Ilsvrc12Config),
  ILSVRC12_MOBILE_RECIPE,
)
VGG_AT_ILSVRC12 = _experiment(
  'vgg_at_ilsvrc12',
  vgg.imagenet_network,
  ilsvrc12.load,
  (vgg.VggConfig, ilsvrc12.Ilsvrc12Config),
  dataclasses.replace(ILSVRC12_RECIPE, lrn_rate=0.01),
)
XCEPTION_AT_ILSVRC12 = _experiment(
  'xception_at_ilsvrc12',
  xception.imagenet_network,
  ilsvrc12.load,
  (xception.XceptionConfig, ilsvrc12.Ilsvrc12Config),
  dataclasses.replace(ILSVRC12_RECIPE, lrn_rate=0.045, weight_decay=1e-5),
)


DIGIT_SCENES_RECIPE = Recipe(32, 30, 0.02, (20, 26), weight_decay=5e-4, batch_size_eval=50)
VOC_RECIPE = Recipe(
  32, 232, 0.001, (155, 193), weight_decay=5e-4, batch_size_eval=32
)  # Liu et al. 2016: 120,000 steps
COCO_RECIPE = Recipe(
  32, 65, 0.0026, (43, 54), weight_decay=5e-4, batch_size_eval=32
)  # NVIDIA's SSD300 on ResNet-50


def _small_detection(
  network: ssd.SmallSsdConfig,
  data: digit_scenes.DigitScenesConfig,
  config: detectors.DetectionConfig,
) -> ModelHelper:
  detector, dataset = ssd.small_detector(network, data.scene_size), digit_scenes.load(data)
  build = detectors.builder(detector, dataset)
  task = detectors.task_of(detector, dataset, config)
  return ModelHelper(detector.name, build, dataset, DIGIT_SCENES_RECIPE, task=task)


def _large_detection(
  load: Callable[..., ImageSource],
  recipe: Recipe,
  network: ssd.SsdConfig,
  data: voc.VocConfig | coco.CocoConfig,
  config: detectors.DetectionConfig,
) -> ModelHelper:
  dataset = load(data)
  detector = ssd.large_detector(network, dataset.name)
  build = detectors.builder(detector, dataset, network.ssd_backbone_path)
  task = detectors.task_of(detector, dataset, config)
  return ModelHelper(detector.name, build, dataset, recipe, task=task)


SSD_AT_DIGIT_SCENES = Experiment(
  'ssd_at_digit_scenes',
  (ssd.SmallSsdConfig, digit_scenes.DigitScenesConfig, detectors.DetectionConfig),
  _small_detection,
)
SSD_AT_VOC = Experiment(
  'ssd_at_voc',
  (ssd.SsdConfig, voc.VocConfig, detectors.DetectionConfig),
  functools.partial(_large_detection, voc.load, VOC_RECIPE),
)
SSD_AT_COCO = Experiment(
  'ssd_at_coco',
  (ssd.SsdConfig, coco.CocoConfig, detectors.DetectionConfig),
  functools.partial(_large_detection, coco.load, COCO_RECIPE),
)


def experiment_of(script: str) -> Experiment:
  """The experiment of an entry script such as `nets/resnet_at_cifar10_run.py`.

  Raises:
    UserError: there is no such script, or its network comes from a file.
  """
  found = globals().get(Path(script).stem.removesuffix('_run').upper())
  if not isinstance(found, Experiment):
    raise UserError(
      f'{script} is no entry script that builds a network: give nets/<net>_at_<data set>_run.py.'
    )
  return found
