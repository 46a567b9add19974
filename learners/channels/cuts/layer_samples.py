"""Samples for layer-wise training, as many as their feature maps leave room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.console import say
from secateurs.utils import nested
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.training.layerwise.frontier import bytes_per_image

_MEGABYTE = 1 << 20


def images_within(
  cache_mb: int,
  wanted: int,
  batch_size: int,
  flat: FlatModel,
  units: Sequence[Unit],
  batches: Callable[[int], tf.data.Dataset],
) -> tuple[Any, Any]:
  """Inputs [n, ...] and targets [n, ...] of one process.

  Args:
    cache_mb: memory for the feature maps that cross a cut, in megabytes.
    wanted: samples, if there is room; at least a batch is taken.
    batch_size: samples of a layer-wise step.
    flat: the network.
    units: what is pruned: maps before and after their readers are held.
    batches: gives batches of a size.
  """
  room = max(cache_mb * _MEGABYTE // _bytes_per_sample(flat, units), min(batch_size, wanted))
  if room < wanted:
    say(
      f'--dcp_cache_mb {cache_mb} has room for the feature maps of {room} images, so that many are '
      f'sampled in place of {wanted}.'
    )
    wanted = room
  size = min(batch_size, wanted)
  parts = [nested.as_numpy((x, y)) for x, y, *_ in batches(size).take(-(-wanted // size))]
  return nested.rows(nested.joined(parts), slice(wanted))


def _bytes_per_sample(flat: FlatModel, units: Sequence[Unit]) -> int:
  """The most that any cut needs: two networks' maps in front of it, and the readers' outputs."""
  first, calls, need = first_calls(flat), flat.calls_by_layer(), 0
  for unit in units:
    shapes = [flat.shapes[calls[name][0].outputs[0]] for name in unit.readers]
    targets = 2 * sum(int(np.prod(shape[1:])) for shape in shapes)
    need = max(need, 2 * bytes_per_image(flat, first[unit.readers[0]]) + targets)
  return need
