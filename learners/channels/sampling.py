"""Networks and training samples that channels are judged on."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.allocation.site import Site
from secateurs.learners.channels.refit_memory import cache_bytes, refit_need
from secateurs.learners.run.compression import CompressionLearner
from secateurs.learners.run.files import with_ending
from secateurs.learners.run.preflight import checks
from secateurs.learners.run.preflight.estimate import Need
from secateurs.learners.run.preflight.work import Work
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.linear import MAX_ROWS
from secateurs.utils.training.layerwise.maps import MapStore
from secateurs.utils.training.models.batch_norm import batch_norms, batches_for
from secateurs.utils.training.models.weights import (
  assign_weights,
  copy_weights,
  load_model,
  named_weights,
)

AnySite = TypeVar('AnySite', bound=Site)

_MAX_MAP_BYTES, _FLOAT_BYTES = 1 << 30, 4


class SamplingLearner(CompressionLearner):
  """A learner that looks at samples before it compresses, and may refit layers over them."""

  max_rows: int | None = MAX_ROWS  # Of kernels that can be pruned by their inputs.

  def site(self, kind: type[AnySite], **further: Any) -> AnySite:
    """What measuring widths takes of this run.

    Args:
      kind: `Site`, or what has more fields.
      further: these fields.
    """
    return kind(
      helper=self.helper,
      original=self.original,
      original_tflite=with_ending(self.files.original_prefix, '.tflite'),
      nb_threads=min(self.settings.run.threads),
      seed=self.settings.run.seed,
      trials=functools.partial(self.search_file, self.state.widths),
      save=self.save_search,
      jobs=self.config.jobs,
      **further,
    )

  def nb_refit_samples(self) -> int:
    """How many samples layers are refit over; 0 if none is."""
    return 0

  def work_of(self, phase: str) -> Work:
    """As of all learners; refits run both networks on their samples, and slicing evaluates twice."""
    if phase == 'prune':
      return Work(2 * self.nb_refit_samples())
    if phase == 'slice':
      nb_batches, size = batches_for(self.model, self.helper.nb_samples('train'))
      nb_images = nb_batches * size if batch_norms(self.model) else 0
      return Work(2 * self.helper.nb_samples('eval') + nb_images)
    return super().work_of(phase)

  def memory_needs(self) -> list[Need]:
    """As of all learners, and what refitting layers takes."""
    nb_samples, needs = self.nb_refit_samples(), super().memory_needs()
    if not nb_samples:
      return needs
    return [*needs, refit_need(self.budget, self.model, nb_samples, self.max_rows)]

  def preflight(self) -> list[checks.Check]:
    """As of all learners, and whether the disk takes the feature maps of refits."""
    cache = cache_bytes(self.model, self.nb_refit_samples())
    room, folder = self.budget.cache_room, self.budget.folder
    return [*super().preflight(), lambda: checks.require_room_for_maps(folder, cache, room)]

  def samples(self, purpose: str, nb_batches: int, batch_size: int) -> list[tuple]:
    """This process's part of some batches of training samples: (inputs, targets), float32 inputs."""
    mine = self._batches(purpose, nb_batches, batch_size)
    return [tf.nest.map_structure(lambda x: x.numpy(), batch) for batch in mine]

  def _batches(self, purpose: str, nb_batches: int, batch_size: int) -> tf.data.Dataset:
    index, nb_ranks = distributed.shard()
    batches = self.helper.train_batches(
      batch_size, self.settings.stream_seed(purpose), augment=self.sample_augmentation
    )
    return batches.take(nb_batches).shard(nb_ranks, index)

  def images(self, purpose: str, nb_batches: int, batch_size: int) -> list[np.ndarray]:
    """The inputs of `samples`, float32 [n, h, w, c]."""
    return [batch[0] for batch in self.samples(purpose, nb_batches, batch_size)]

  def map_store(self) -> MapStore:
    """Where feature maps are kept, within the run's memory."""
    return self.budget.store()

  def working_model(self) -> keras.Model:
    """An independent float32 copy of the run's model."""
    model = self.settings.in_float32(self.model)
    if model is self.model:
      model = self.helper.build_model(self.settings.run.seed)
      copy_weights(self.model, model)
    return model

  def original(self) -> keras.Model:
    """The network before compression, float32."""
    model = self.helper.build_model(self.settings.run.seed)
    assign_weights(named_weights(model), self._original_weights, str(self.files.original_keras))
    return model

  @functools.cached_property
  def _original_weights(self) -> dict[str, np.ndarray]:
    return {n: w.numpy() for n, w in named_weights(load_model(self.files.original_keras)).items()}

  def nb_batches_within(self, wanted: int, batch_size: int) -> int:
    """As many batches as the memory for a feature map of all of them allows, at most `wanted`."""
    room = _MAX_MAP_BYTES // (self._largest_map * _FLOAT_BYTES * batch_size)
    return min(max(room, 1), wanted)

  @functools.cached_property
  def _largest_map(self) -> int:
    """Numbers in the largest feature map of an image, in the network before compression."""
    shapes = flatten_model(self.helper.build_model(self.settings.run.seed)).shapes
    return max(math.prod(shape[1:]) for shape in shapes)

  def bn_images(self) -> Iterable[tf.Tensor]:
    """Batches of images that BN's statistics are re-estimated over, read again each time."""
    nb_batches, size = batches_for(self.model, self.helper.nb_samples('train'))
    return self._batches('batch_norm', nb_batches, size).map(lambda *batch: batch[0])
