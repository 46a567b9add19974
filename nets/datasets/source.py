"""What a data set of images is: its interface, and the flags that all of them have."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import tensorflow as tf

from secateurs.utils.config import Config, option

# The part of the data that a process reads: (index, number of processes).
Shard = tuple[int, int]

# Augmentation of training images: everything that is usual for the data set, mirroring only, nothing.
AUGMENTATIONS = ('all', 'mirror', 'none')


class ImageSource(Protocol):
  """Interface of data sets: labelled images in three splits for training and evaluation."""

  name: str
  image_shape: tuple[int, int, int]
  nb_classes: int
  augments: bool  # Whether the data set applies the augmentation itself.

  def nb_samples(self, split: str) -> int:
    """Number of samples of split `train`, `val` or `eval`."""

  def notes(self) -> list[str]:
    """Remarks about the data for the report."""

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: Shard = (0, 1),
  ) -> tf.data.Dataset:
    """Endless batches from step `start` on; depends only on seed, step and shard.

    `augment` is one of AUGMENTATIONS.
    """

  def eval_batches(self, split: str, batch_size: int, *, shard: Shard = (0, 1)) -> tf.data.Dataset:
    """Every sample of a split (or of the part that `shard` selects) exactly once."""

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images spread evenly over the split, without augmentation, float32 [n, h, w, c]."""


@dataclasses.dataclass(frozen=True)
class DataConfig(Config):
  """Data: folder and numbers of images."""

  data_dir_local: str | None = option(
    None,
    'Folder of the data set; default: path.conf, then the environment variable SECATEURS_DATA.',
    affects_result=False,
  )
  nb_smpls_train: int | None = option(
    None, 'Number of training images to use; default: all.', low=1
  )
  nb_smpls_val: int = option(
    0,
    'Number of training images to hold out for validation; -1: a fifth of them, at most 10,000.',
    low=-1,
  )
  nb_smpls_eval: int | None = option(
    None, 'Number of evaluation images to use; default: all.', low=1
  )
