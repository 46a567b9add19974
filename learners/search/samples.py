"""The samples that tries are judged on, where half of the evaluation set is given away for it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from secateurs.learners.run.helper import Helper


class HalfJudging:
  """A helper whose validation split is every second evaluation sample; the others are the evaluation's.

  No network has seen them, and all training samples are left to train on.
  """

  def __init__(self, helper: Helper) -> None:
    self._helper = helper

  def __getattr__(self, name: str) -> Any:
    return getattr(self._helper, name)

  def nb_samples(self, split: str) -> int:
    """Number of samples of a split."""
    if split == 'train':
      return self._helper.nb_samples(split)
    return (self._helper.nb_samples('eval') + (split == 'val')) // 2

  def eval_batches(
    self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
  ) -> tf.data.Dataset:
    """Every sample of a split, or of a process's part of it, exactly once."""
    if split == 'train':
      return self._helper.eval_batches(split, batch_size, shard=shard)
    index, count = shard
    half = 2 * index + (split == 'eval')
    return self._helper.eval_batches('eval', batch_size, shard=(half, 2 * count))

  def notes(self) -> list[str]:
    """As of the helper, and what became of the evaluation samples."""
    return [
      *self._helper.notes(),
      f'Every second evaluation sample ({self.nb_samples("val")}) judged the tries; the scores here '
      f'are those of the other {self.nb_samples("eval")}, which were not searched on.',
    ]
