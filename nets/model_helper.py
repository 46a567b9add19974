"""Ties a network, a data set and a training recipe together: all that a learner is handed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.nets import lenet, resnet
from secateurs.nets.datasets import cifar10, digits, image_folder
from secateurs.nets.datasets.images import DataConfig, ImageDataset
from secateurs.utils.config import Config


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a network is usually trained on a data set; flags override each part.

  Attributes:
    batch_size: samples of a step for which `lrn_rate` is stated.
    nb_epochs: length of the whole training.
    lrn_rate: initial learning rate.
    decay_epochs: where the rate is multiplied by `decay`.
    decay: factor at each of them.
    momentum: of SGD.
    weight_decay: factor of the L2 term over everything but BN.
  """

  batch_size: int
  nb_epochs: int
  lrn_rate: float
  decay_epochs: tuple[float, ...]
  decay: float = 0.1
  momentum: float = 0.9
  weight_decay: float = 2e-4


CIFAR10_RECIPE = Recipe(128, 250, 0.1, (100, 150, 200))
DIGITS_RECIPE = Recipe(64, 40, 0.1, (20, 30))
FOLDER_RECIPE = Recipe(32, 60, 0.025, (30, 45))


class ModelHelper:
  """A network on a data set.

  Attributes:
    net: name of the network, such as `resnet20`.
    dataset: the data set.
    recipe: how it is usually trained.
  """

  def __init__(
    self, net: str, build: Callable[[], keras.Model], dataset: ImageDataset, recipe: Recipe
  ) -> None:
    self.net, self.dataset, self.recipe = net, dataset, recipe
    self._build = build

  @property
  def name(self) -> str:
    """Network and data set, such as `resnet20_at_cifar10`."""
    return f'{self.net}_at_{self.dataset.name}'

  def build_model(self, seed: int) -> keras.Model:
    """Builds the network with new weights, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    return self._build()

  def nb_samples(self, split: str) -> int:
    """Number of samples of split `train`, `val` or `eval`."""
    return self.dataset.nb_samples(split)

  def train_batches(
    self, batch_size: int, seed: int, start: int = 0, *, shard: tuple[int, int] = (0, 1)
  ) -> tf.data.Dataset:
    """Endless augmented training batches from step `start` on, for one of several processes."""
    return self.dataset.train_batches(batch_size, seed, start, shard=shard)

  def eval_batches(
    self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
  ) -> tf.data.Dataset:
    """Every sample of a split, or of a process's part of it, exactly once."""
    return self.dataset.eval_batches(split, batch_size, shard=shard)

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images as the network sees them, float32 [n, h, w, c]."""
    return self.dataset.calibration_images(nb_images)


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What an entry script compresses: which flags it has, and how a helper is made from them.

  Attributes:
    name: network family and data set, such as `resnet_at_cifar10`.
    configs: config classes of the network and the data set.
    make: builds the helper from instances of these.
  """

  name: str
  configs: tuple[type[Config], ...]
  make: Callable[..., ModelHelper]


def _resnet_on(load: Callable, recipe: Recipe, net: resnet.ResNetConfig, data: DataConfig):
  dataset = load(data)
  build = functools.partial(
    resnet.cifar_resnet, net.resnet_size, dataset.image_shape, dataset.nb_classes
  )
  return ModelHelper(f'resnet{net.resnet_size}', build, dataset, recipe)


def _lenet_on(load: Callable, recipe: Recipe, data: DataConfig):
  dataset = load(data)
  build = functools.partial(lenet.lenet, dataset.image_shape, dataset.nb_classes)
  return ModelHelper('lenet', build, dataset, recipe)


RESNET_AT_CIFAR10 = Experiment(
  'resnet_at_cifar10',
  (resnet.ResNetConfig, DataConfig),
  functools.partial(_resnet_on, cifar10.load, CIFAR10_RECIPE),
)
RESNET_AT_DIGITS = Experiment(
  'resnet_at_digits',
  (resnet.ResNetConfig, DataConfig),
  functools.partial(_resnet_on, digits.load, DIGITS_RECIPE),
)
RESNET_AT_IMAGE_FOLDER = Experiment(
  'resnet_at_image_folder',
  (resnet.ResNetConfig, image_folder.ImageFolderConfig),
  functools.partial(_resnet_on, image_folder.load, FOLDER_RECIPE),
)
LENET_AT_DIGITS = Experiment(
  'lenet_at_digits',
  (DataConfig,),
  functools.partial(_lenet_on, digits.load, dataclasses.replace(DIGITS_RECIPE, lrn_rate=0.02)),
)
LENET_AT_CIFAR10 = Experiment(
  'lenet_at_cifar10',
  (DataConfig,),
  functools.partial(_lenet_on, cifar10.load, dataclasses.replace(CIFAR10_RECIPE, lrn_rate=0.02)),
)
