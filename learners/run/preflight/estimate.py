"""What memory a run will need, from the graph of its network, before it begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from secateurs.learners.run.preflight.budget import Budget, sample_bytes
from secateurs.utils import memory
from secateurs.utils.deploy.int8.refit import MOST_VALUES
from secateurs.utils.deploy.int8.running import MAX_BYTES
from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.memory import MapBytes, inference_bytes

_MATRICES = 6  # Of a layer's normal equations while it is solved.
_REPAIR_SAMPLES = 64  # That an int8 file is run on.
_FITS = 2 * 4 * MOST_VALUES  # Inputs of a layer that is fit, real and quantised ones.


@dataclasses.dataclass(frozen=True)
class Need:
  """Memory of one kind of work.

  Attributes:
    work: what is done, to be read after "for".
    bytes: what it takes as the run will do it.
    least: what it takes at the least, with batches run sample by sample and maps on disk.
  """

  work: str
  bytes: int
  least: int


def of_measuring(budget: Budget, maps: MapBytes, before: Sequence[Need]) -> Need:
  """Evaluating, exporting and comparing files."""
  return _after(before, 'exporting', budget, max(budget.exporting, 2 * inference_bytes(maps)))


def of_quantising(budget: Budget, all_maps: int, before: Sequence[Need]) -> Need:
  """What layers cost in 8 bits, and repair: two files with all of their tensors, and fits to them.

  Args:
    budget: of the run.
    all_maps: bytes of all tensors of a sample.
    before: as of `of_measuring`.
  """
  files = 2 * (max(min(MAX_BYTES, _REPAIR_SAMPLES * all_maps), all_maps) + budget.weights)
  return _after(before, 'quantising', budget, files + _FITS)


def _after(before: Sequence[Need], work: str, budget: Budget, more: int) -> Need:
  """Work that takes `more`, on top of what earlier work took where TensorFlow keeps that for itself."""
  earlier = [] if memory.is_shared() else before
  held = max([need.bytes for need in earlier], default=budget.taken)
  least = max([need.least for need in earlier], default=budget.taken)
  return Need(work, held + more, least + more)


def of_training(
  budget: Budget, maps: MapBytes, batch_size: int, also: int = 0, held: int = 0
) -> Need:
  """Training on batches.

  Args:
    budget: of the run.
    maps: of a sample in a step.
    batch_size: samples of a step.
    also: further bytes for each sample, such as a teacher's.
    held: further bytes whatever the batch, such as a teacher's weights.
  """
  each, taken = sample_bytes(maps) + also, budget.taken + held
  piece = -(-batch_size // budget.pieces(maps, batch_size, also=also))
  return Need('training', taken + piece * each, taken + each)


def of_layers(budget: Budget, maps: MapBytes, batch_size: int, cache: int) -> Need:
  """Layer-wise training on kept feature maps.

  Args:
    budget: of the run.
    maps: of a sample in a step.
    batch_size: samples of a step.
    cache: bytes of all feature maps that are kept, in memory or on disk.
  """
  piece = -(-batch_size // budget.pieces(maps, batch_size, caches=True))
  kept = min(cache, budget.cache_room)
  size = budget.taken + kept + piece * sample_bytes(maps)
  return Need('layer-wise training', size, budget.taken + sample_bytes(maps))


def of_least_squares(budget: Budget, maps: MapBytes, rows: int, cache: int) -> Need:
  """Refitting layers: six float64 matrices of the layer with most rows, and kept feature maps."""
  matrices = _MATRICES * 8 * rows**2
  kept = min(cache, budget.cache_room)
  least = budget.taken + matrices + inference_bytes(maps)
  return Need('least squares', least + kept, least)


def largest(needs: Sequence[Need]) -> Need:
  """The one that decides."""
  return max(needs, key=lambda need: need.bytes)


def against_peak(estimated: int) -> str:
  """A line with what this process took at the most, and what was expected, in bytes."""
  return (
    f'Peak memory: {memory.peak() / memory.MEGABYTE:,.0f} MB, estimated before: '
    f'{estimated / memory.MEGABYTE:,.0f} MB.'
  )


def describe(needs: Sequence[Need], limit: int, asked: bool) -> str:
  """A sentence for the user."""
  need = largest(needs)
  origin = '--max_memory_mb allows' if asked else 'half of what is free, --max_memory_mb, is'
  return f'Memory: about {_gb(need.bytes)} at the most, for {need.work}; {origin} {_gb(limit)}.'


def require_fit(needs: Sequence[Need], limit: int, asked: bool) -> None:
  """Refuses a run that cannot keep to its memory.

  Args:
    needs: of its kinds of work.
    limit: bytes that it may hold.
    asked: whether the user set them; else all that the machine has free counts.

  Raises:
    UserError: not even sample by sample.
  """
  need = max(needs, key=lambda one: one.least)
  if need.least <= limit or (not asked and need.least <= memory.resident() + memory.free()):
    return
  there_is = f'--max_memory_mb allows {limit >> 20}' if asked else f'{memory.free() >> 20} are free'
  raise UserError(
    f'{need.work.capitalize()} takes about {need.least >> 20} MB here even with one sample at a time, '
    f'but {there_is}: give it more memory (--max_memory_mb), smaller images or a smaller network.'
  )


def _gb(size: int) -> str:
  return f'{size / (1 << 30):.1f} GB'
