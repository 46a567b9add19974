"""Splits of labelled samples: which of them train, are held out, and are evaluated."""

from __future__ import annotations

import dataclasses

import numpy as np

from secateurs.nets.datasets.file_names import FileNames
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.errors import UserError

_HOLD_OUT_SEED = 2018  # One fixed choice, so that every run has the same samples in its splits.
_MOST_HELD_OUT = 10_000


@dataclasses.dataclass(frozen=True)
class Split:
  """Images and labels of one split, in memory or as files.

  Attributes:
    images: uint8 [n, h, w, c], or the names of n image files.
    labels: int32 [n].
  """

  images: np.ndarray | FileNames
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)

  def take(self, indices: np.ndarray) -> Split:
    """Returns the samples at the given indices, int [n], in that order."""
    if isinstance(self.images, np.ndarray):
      return Split(self.images[indices], self.labels[indices])
    return Split(self.images.take(indices), self.labels[indices])


def check_counts(nb_train: int, nb_eval: int, config: DataConfig) -> tuple[int, int]:
  """Returns the requested numbers of training and evaluation images.

  Args:
    nb_train: number of training images of the data set.
    nb_eval: number of evaluation images of the data set.
    config: numbers requested by the user.

  Raises:
    UserError: a split has fewer samples than requested.
  """
  held_out = nb_held_out(nb_train, config.nb_smpls_val)
  wanted = nb_train - held_out
  if config.nb_smpls_train is not None:
    wanted = config.nb_smpls_train
  if wanted < 1 or wanted + held_out > nb_train:
    raise UserError(
      f'The data set has {nb_train} training images, but --nb_smpls_train and --nb_smpls_val ask '
      f'for {wanted} and {config.nb_smpls_val}: reduce one of them.'
    )
  wanted_eval = config.nb_smpls_eval or nb_eval
  if wanted_eval > nb_eval:
    raise UserError(
      f'The data set has {nb_eval} evaluation images, but --nb_smpls_eval asks for '
      f'{wanted_eval}: reduce it.'
    )
  return wanted, wanted_eval


def nb_held_out(nb_train: int, wanted: int) -> int:
  """Training samples to hold out: as many as wanted, or for -1 a fifth, at most 10,000."""
  return min(nb_train // 5, _MOST_HELD_OUT) if wanted < 0 else wanted


def hold_out(train: Split, evaluation: Split, config: DataConfig) -> tuple[Split, Split, Split]:
  """Makes the splits of the config: training, validation (held out from training), evaluation.

  If only some samples are used, they are a fixed random choice in their original order, because files
  are often sorted by class.

  Raises:
    UserError: a split has fewer samples than requested.
  """
  nb_train, nb_eval = check_counts(len(train), len(evaluation), config)
  order = fixed_order(len(train))
  held_out = nb_held_out(len(train), config.nb_smpls_val)
  validation = train.take(np.sort(order[len(train) - held_out :]))
  return _chosen(train, nb_train), validation, _chosen(evaluation, nb_eval)


def _chosen(split: Split, nb_samples: int) -> Split:
  if nb_samples == len(split):
    return split
  return split.take(np.sort(fixed_order(len(split))[:nb_samples]))


def fixed_order(nb_samples: int) -> np.ndarray:
  """A random order of samples that is the same in every run, int [nb_samples]."""
  return np.random.RandomState(_HOLD_OUT_SEED).permutation(nb_samples)


def spread(nb_samples: int, nb_wanted: int) -> np.ndarray:
  """Indices of at most `nb_wanted` evenly spaced samples, int64 [n], so that all classes occur."""
  return np.linspace(0, nb_samples - 1, min(nb_samples, nb_wanted)).astype(np.int64)
