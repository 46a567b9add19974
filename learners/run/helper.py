"""What a learner needs to know of a network on a data set; `nets.model_helper` offers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.config import Config
from secateurs.utils.training.tasks.task import Task


class Dataset(Protocol):
  """A data set's description; `augments`: whether it changes training images."""

  name: str
  image_shape: tuple[int, int, int]
  nb_classes: int
  augments: bool


class Optimizer(Protocol):
  """An optimizer by its settings, as a model was compiled with it; `lrn_rate` is its peak."""

  kind: str
  lrn_rate: float

  def make(self, schedule: Any) -> keras.optimizers.Optimizer:
    """A new one with a schedule of rates."""


class Recipe(Protocol):
  """How a network is usually trained."""

  batch_size: int
  nb_epochs: int
  lrn_rate: float
  decay_epochs: tuple[float, ...]
  decay: float
  momentum: float
  weight_decay: float
  batch_size_eval: int
  optimizer: Optimizer | None


class Helper(Protocol):
  """A network, its data, its task and its recipe; whom training calls.

  `configs` are those that network and data were made from, if any; `keras3` says whether the network
  came as a model of Keras 3, `unlabelled` whether labels are the decisions of the original.
  """

  net: str
  name: str
  dataset: Dataset
  recipe: Recipe
  task: Task
  callbacks: Sequence[keras.callbacks.Callback]
  configs: Sequence[Config]
  keras3: bool
  unlabelled: bool

  def build_model(self, seed: int) -> keras.Model:
    """A new functional model that gives the task's outputs, with weights that follow from the seed."""

  def given_weights(self) -> dict[str, np.ndarray] | None:
    """Trained weights that the network came with, by name; None if it came with none."""

  def history(self) -> list[dict[str, Any]]:
    """Links of the chain of runs that the network came out of, as reports hold them."""

  def identity(self) -> dict[str, str]:
    """What distinguishes this network from others of the same name, for resumed runs."""

  def own_weights(self, weights: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Weights by the network's own names, from those of any source that it knows."""

  def notes(self) -> list[str]:
    """What the reader of a report must know of the data."""

  def held_bytes(self) -> int:
    """What its samples take in memory; 0 where they are read when they are needed."""

  def nb_samples(self, split: str) -> int:
    """Number of samples of split `train`, `val` or `eval`."""

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: tuple[int, int] = (0, 1),
  ) -> tf.data.Dataset:
    """Endless batches of (float32 [n, h, w, c], int32 [n]); a function of seed, step and shard alone.

    `augment` is what may happen to the images: all, mirror or none. `shard` is (index, count):
    `batch_size` samples of each step's count * batch_size.
    """

  def eval_batches(
    self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
  ) -> tf.data.Dataset:
    """Every sample of a split exactly once, or of one of `count` disjoint parts of it."""

  def sketched(self, seed: int) -> Helper:
    """The same with the network as if it had come trained: for estimates before it is."""

  def continued(self, path: Path) -> Helper:
    """The same data, task and recipe with the network of an exported .keras file, and its history."""

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images as the network sees them, float32 [n, h, w, c]."""
