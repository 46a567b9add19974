"""What may go of a network, what each level of it costs in divergence, and what it saves."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cutting import plan_of
from secateurs.learners.channels.reconstruct import statistics
from secateurs.learners.channels.refits import LayerRefits
from secateurs.learners.channels.sensitivity import unit_parts
from secateurs.learners.channels.units import Unit
from secateurs.learners.quant.pruning import pruned_kernels
from secateurs.learners.run import divergence
from secateurs.learners.run.divergence import Part, losses_at
from secateurs.learners.run.settings import Settings
from secateurs.learners.search.building import (
  BITS,
  ZEROS,
  Repair,
  rough,
  smallest_zero,
  units_of,
)
from secateurs.learners.search.choosing import Choice
from secateurs.learners.search.files import shared
from secateurs.learners.search.state import Taken
from secateurs.utils import nested
from secateurs.utils.graph import ChannelGraph, count, drop_block, residual_blocks
from secateurs.utils.graph.choice.costs import layer_costs
from secateurs.utils.graph.counts.copying import copy_flat
from secateurs.utils.graph.counts.memory import held_bytes, inference_batch
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.models.weights import kernels_by_name, layer_kernels

_SPARSER = (0.85, 0.7, 0.55, 0.4, 0.25)  # Fractions of a kernel's nonzeros that stay.
_GAP_BITS = 2.2  # About what a packed file adds to each nonzero weight.
_LEAST_BITS = 2
_NB_WIDTHS = 16
_POWER = 8  # Of the norm that stands for the largest sum of feature maps.


@dataclasses.dataclass(frozen=True)
class Scene:
  """A network of the search, and what looking at it takes.

  Attributes:
    model: float32, the task's outputs.
    bits: of its kernels by name, where they share values; empty elsewhere.
    trunk: what happens to channels that residual additions join.
    skip: patterns of layers that keep their channels.
    settings: of the run.
    cost: bytes, latency, macs or ram.
    file: float, int8 or packed.
    ms_by_part: what blocks and whole units are worth in milliseconds.
  """

  model: keras.Model
  bits: Mapping[str, int]
  trunk: str
  skip: Sequence[str]
  settings: Settings
  cost: str
  file: str
  ms_by_part: Mapping[str, float]

  def units(self, graph: ChannelGraph) -> list[Unit]:
    """Units of channels."""
    return units_of(graph, self.trunk, self.skip)

  def rough(self, taken: Sequence[Taken]) -> keras.Model:
    """A network of the structure that a choice leads to."""
    return rough(self.model, taken, self.trunk, self.skip)


def survey(scene: Scene, repair: Repair, samples: Any, say: Callable[[str], None]) -> list[Choice]:
  """All parts of a network with their levels, losses and savings.

  Channels are measured with what reads them refit, zeros and bits as they are, blocks by the network
  without them; all by the divergence from the network's own outputs.

  Args:
    scene: the network.
    repair: samples and method of the refits.
    samples: inputs [n, ...] on which divergences are measured.
    say: prints a line.
  """
  working = copy_flat(flatten_model(scene.model))
  graph = ChannelGraph(scene.model)
  units = scene.units(graph)
  parts: list[Part] = []
  if units:
    readers = statistics(scene.model, working, units, repair.batches, repair.method)
    refits = LayerRefits(scene.model, units, readers, repair.method)
    parts += unit_parts(working, units, refits)
  kernels = kernels_by_name(working) if scene.bits else {}
  sparse = pruned_kernels(kernels) if kernels else {}
  first = first_calls(flatten_model(working))
  owners = {kernel.ref(): layer.name for layer, kernel in layer_kernels(working)}
  for name, kernel in kernels.items():
    start = first[owners[kernel.ref()]]
    if name in sparse:
      parts.append(_zeros_part(name, kernel, start))
    if scene.bits[name] > _LEAST_BITS:
      parts.append(_bits_part(name, kernel, start, scene.bits[name]))
  curves = divergence.scan(working, parts, samples, scene.settings.helper.task)
  found = _channel_choices(scene, graph, units, curves)
  found += _block_choices(scene, samples)
  found += _weight_choices(scene, kernels, curves)
  say(
    f'survey  {len(units)} units of channels, {sum(o.kind == "block" for o in found)} residual '
    f'blocks, {len(sparse)} kernels'
  )
  return found


def _zeros_part(name: str, kernel: Any, start: int) -> Part:
  weights = kernel.numpy()
  whole = np.count_nonzero(weights)

  def prune(share: float) -> None:
    kernel.assign(smallest_zero(weights, round(share * whole)))

  points = [(1 - share, functools.partial(prune, share)) for share in _SPARSER]
  return Part(ZEROS + name, start, points, lambda: kernel.assign(weights))


def _bits_part(name: str, kernel: Any, start: int, bits: int) -> Part:
  weights = kernel.numpy()

  def prune() -> None:
    kernel.assign(shared(weights, bits - 1))

  return Part(BITS + name, start, [(1.0, prune)], lambda: kernel.assign(weights))


# What levels save.


def _by_layer(
  scene: Scene, rows: Mapping[str, tuple[int, int]], density: Mapping[str, float]
) -> float:
  """Cost of layers, from their MACs and parameters by name, where it adds up over layers."""
  if scene.cost == 'macs':
    return float(sum(macs for macs, _ in rows.values()))
  total = 0.0
  for name, (_, params) in rows.items():
    if scene.file == 'packed' and name in scene.bits:
      total += params * density[name] * (scene.bits[name] + _GAP_BITS) / 8
    elif scene.file == 'int8':
      total += params
    else:
      total += 4 * params
  return total


def _density(scene: Scene) -> dict[str, float]:
  if scene.file != 'packed':
    return {}
  found = kernels_by_name(scene.model)
  return {
    name: np.count_nonzero(k.numpy()) / max(int(np.prod(k.shape)), 1) for name, k in found.items()
  }


def _held(model: keras.Model) -> float:
  sizes = np.array(held_bytes(flatten_model(model)), float)
  largest = max(float(sizes.max(initial=1.0)), 1.0)
  return largest * float(np.sum((sizes / largest) ** _POWER)) ** (1 / _POWER)


def _widths(size: int) -> list[int]:
  """Numbers of channels that a unit may keep, falling to one: about sixteen."""
  step = max(size // _NB_WIDTHS, 1)
  return sorted({1, *range(size - step, 0, -step)} - {size}, reverse=True)


def _channel_choices(
  scene: Scene, graph: ChannelGraph, units: Sequence[Unit], curves: Mapping[str, Any]
) -> list[Choice]:
  density = _density(scene)

  def rows(masks: Sequence[np.ndarray]) -> dict[str, tuple[int, int]]:
    costs = layer_costs(plan_of(graph, units, masks))
    return {cost.name: (cost.macs_at(cost.kept), cost.params) for cost in costs}

  whole_masks = [np.ones(unit.size, bool) for unit in units]
  additive = scene.cost in ('macs', 'bytes')
  whole = _by_layer(scene, rows(whole_masks), density) if units and additive else 0.0
  held = _held(scene.model) if scene.cost == 'ram' else 0.0
  inside = _owners(scene.model, units)
  found = []
  for place, unit in enumerate(units):
    least = max(unit.rule.count(unit.size, 1), 1)
    kept = [number for number in _widths(unit.size) if number >= least]
    if not kept:
      continue
    losses = losses_at(curves[unit.name], 1 - np.array(kept) / unit.size)
    savings = []
    for number in kept:
      if additive:
        masks = [*whole_masks]
        masks[place] = np.arange(unit.size) < number
        savings.append(whole - _by_layer(scene, rows(masks), density))
      elif scene.cost == 'ram':
        taken = [Taken(unit.name, 'channels', unit.size, number, 0.0)]
        savings.append(held - _held(scene.rough(taken)))
      else:
        savings.append(scene.ms_by_part.get(unit.name, 0.0) * (unit.size - number))
    found.append(
      Choice(
        unit.name,
        'channels',
        (unit.size, *kept),
        (0.0, *losses.tolist()),
        (0.0, *savings),
        inside.get(unit.name),
      )
    )
  return found


def _owners(model: keras.Model, units: Sequence[Unit]) -> dict[str, str]:
  """The residual block that would take a unit along, by unit name."""
  names = set(flatten_model(model).layers())
  found = {}
  for block in residual_blocks(model):
    gone = names - set(flatten_model(drop_block(model, block)).layers())
    found |= {unit.name: block for unit in units if gone.issuperset(unit.readers)}
  return found


def _block_choices(scene: Scene, samples: Any) -> list[Choice]:
  model, task = scene.model, scene.settings.helper.task
  names = residual_blocks(model)
  if not names:
    return []
  size = inference_batch(flatten_model(model), 250)
  before, density = _outputs(model, samples, size), _density(scene)
  whole = _block_cost(scene, model, density)
  found = []
  for name in names:
    less = drop_block(model, name)
    if _is_skipped(scene, model, less):
      continue
    loss = float(np.mean(task.divergence(before, _outputs(less, samples, size))))
    if scene.cost == 'latency':
      saving = scene.ms_by_part.get(name, 0.0)
    else:
      saving = whole - _block_cost(scene, less, density)
    found.append(Choice(name, 'block', (1, 0), (0.0, max(loss, 0.0)), (0.0, saving)))
  return found


def _is_skipped(scene: Scene, model: keras.Model, less: keras.Model) -> bool:
  """Whether a layer that goes with a block was named as one that stays."""
  gone = set(flatten_model(model).layers()) - set(flatten_model(less).layers())
  return any(fnmatch.filter(gone, pattern) for pattern in scene.skip)


def _block_cost(scene: Scene, model: keras.Model, density: Mapping[str, float]) -> float:
  if scene.cost == 'latency':
    return 0.0
  if scene.cost == 'ram':
    return _held(model)
  rows = {row.name: (row.macs, row.params) for row in count(model).layers}
  return _by_layer(scene, rows, density)


def _outputs(model: keras.Model, samples: Any, size: int) -> Any:
  parts = [
    nested.as_numpy(model(nested.rows(samples, slice(start, start + size)), training=False))
    for start in range(0, nested.size(samples), size)
  ]
  return nested.joined(parts)


def _weight_choices(
  scene: Scene, kernels: Mapping[str, Any], curves: Mapping[str, Any]
) -> list[Choice]:
  found = []
  for name, kernel in kernels.items():
    whole, bits = int(np.count_nonzero(kernel.numpy())), scene.bits[name]
    each = (bits + _GAP_BITS) / 8
    if ZEROS + name in curves:
      kept = [round(share * whole) for share in _SPARSER]
      losses = [loss for _, loss in curves[ZEROS + name][1:]]
      savings = [(whole - number) * each for number in kept]
      found.append(Choice(ZEROS + name, 'zeros', (whole, *kept), (0.0, *losses), (0.0, *savings)))
    if BITS + name in curves:
      loss = curves[BITS + name][-1][1]
      found.append(Choice(BITS + name, 'bits', (bits, bits - 1), (0.0, loss), (0.0, whole / 8)))
  return found
