"""Samples that a search refits on, and the half of the evaluation set that may judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.repair.method import NB_BATCHES, Method, nb_points
from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.given import came_trained
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.settings import Settings
from secateurs.learners.search.building import Repair
from secateurs.learners.search.confidence import least_samples
from secateurs.learners.search.config import AUTO, HALF, HELD_OUT, JsConfig
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.maps import MapStore
from secateurs.utils.training.models.batch_norm import batches_for

_BATCH = 64
_ENOUGH, _ENOUGH_TIMES = 2000, 4
_MAX_MAP_BYTES = 1 << 30


def require_held_out(helper: Helper) -> None:
  """Checks that there are samples to judge on that no training sees.

  Raises:
    UserError: there are none.
  """
  if not helper.nb_samples('val'):
    raise UserError(
      'A search judges on samples that it does not train on, but none are held out of training: give '
      '--nb_smpls_val -1 (a fifth of them; a tf.data.Dataset holds out none), or --js_judge half, '
      'which takes half of the evaluation set.'
    )


def who_judges(helper: Helper, config: JsConfig, run: RunConfig | None) -> str:
  """What judges the tries: what the flag says, or for `auto` what suits the network and the data.

  A network that came trained knows the samples that are held out now: to it they are no new ones, and
  what its compressed form forgets of them counts as a loss. Every second evaluation sample judges it
  where that leaves several times as many as the least that can show a drop.
  """
  if config.judge != AUTO:
    return config.judge
  least = _ENOUGH_TIMES * least_samples(config.drop, config.nb_looks)
  enough = max(0 if config.limited else least, _ENOUGH)
  half = helper.nb_samples('eval') // 2 >= enough and came_trained(helper, run)
  return HALF if half else HELD_OUT


def bn_batches(settings: Settings, augment: str, model: keras.Model) -> Iterable[tf.Tensor]:
  """This process's batches of inputs that batch normalisation is re-estimated over."""
  nb_batches, size = batches_for(model, settings.helper.nb_samples('train'))
  return _inputs(settings, augment, 'batch_norm', nb_batches, size)


def repair(settings: Settings, augment: str, store: Callable[[], MapStore]) -> Repair:
  """Samples and method of refits: as many samples as a map of all of them allows."""
  helper = settings.helper
  shapes = flatten_model(helper.build_model(settings.run.seed)).shapes
  largest = max(int(np.prod([side or 1 for side in shape[1:]])) for shape in shapes)
  number = min(max(_MAX_MAP_BYTES // (4 * largest * _BATCH), 1), NB_BATCHES)
  number = min(number, max(helper.nb_samples('train') // _BATCH, 1))
  size = min(_BATCH, helper.nb_samples('train'))
  batches = [
    tf.nest.map_structure(lambda x: x.numpy(), one)
    for one in _inputs(settings, augment, 'prune', number, size)
  ]
  method = Method(
    selection='backward',
    refit_all=True,
    keep_zeros=True,
    seed=settings.run.seed,
    nb_points=nb_points(number),
    store=store,
  )
  return Repair(batches, method)


def _inputs(
  settings: Settings, augment: str, purpose: str, nb_batches: int, size: int
) -> tf.data.Dataset:
  index, nb_ranks = distributed.shard()
  batches = settings.helper.train_batches(size, settings.stream_seed(purpose), augment=augment)
  return batches.take(nb_batches).shard(nb_ranks, index).map(lambda *batch: batch[0])


class HalfJudging:
  """A helper whose validation split is every second evaluation sample; the others are the evaluation's.

  No network has seen them, and all training samples are left to train on: none are held out of them
  unless --nb_smpls_val says so.
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
      f'are those of the other {self.nb_samples("eval")}, which were not searched on. --js_judge '
      'held-out judges on samples held out of training.',
    ]
