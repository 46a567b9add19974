"""How networks are usually trained on data sets, as published."""

from __future__ import annotations

import dataclasses

from secateurs.nets.compiled import CompiledOptimizer


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
DIGIT_SCENES_RECIPE = Recipe(32, 30, 0.02, (20, 26), weight_decay=5e-4, batch_size_eval=50)
VOC_RECIPE = Recipe(
  32, 232, 0.001, (155, 193), weight_decay=5e-4, batch_size_eval=32
)  # Liu et al. 2016: 120,000 steps
COCO_RECIPE = Recipe(
  32, 65, 0.0026, (43, 54), weight_decay=5e-4, batch_size_eval=32
)  # NVIDIA's SSD300 on ResNet-50
