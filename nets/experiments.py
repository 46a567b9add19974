"""The experiments of the entry scripts: a network, a data set, and the recipe of their training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from secateurs.nets import densenet, detectors, lenet, lstm, mobilenet, resnet, ssd, vgg, xception
from secateurs.nets.datasets import (
  cifar10,
  coco,
  digit_scenes,
  digits,
  ilsvrc12,
  image_folder,
  voc,
)
from secateurs.nets.datasets.source import DataConfig, ImageSource
from secateurs.nets.model_helper import ModelHelper
from secateurs.nets.network import Network
from secateurs.nets.recipe import (
  CIFAR10_RECIPE,
  COCO_RECIPE,
  DIGIT_SCENES_RECIPE,
  DIGITS_RECIPE,
  FOLDER_RECIPE,
  ILSVRC12_MOBILE_RECIPE,
  ILSVRC12_RECIPE,
  RESNET_DIGITS_RECIPE,
  VOC_RECIPE,
  Recipe,
)
from secateurs.utils.config import Config
from secateurs.utils.errors import UserError


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
