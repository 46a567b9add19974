"""What levels of parts save, and what they cost in divergence, as rows of the knapsack."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.training.divergence import losses_at
from secateurs.learners.search.building import BITS, ZEROS, Repair, refit_without_blocks
from secateurs.learners.search.choosing import Choice
from secateurs.learners.search.scene import Scene
from secateurs.learners.search.state import Taken
from secateurs.utils import nested
from secateurs.utils.graph import ChannelGraph, count, drop_block, residual_blocks
from secateurs.utils.graph.choice.costs import layer_costs
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.models.weights import kernels_by_name

SPARSER = (0.85, 0.7, 0.55, 0.4, 0.25)
"""Fractions of a kernel's nonzeros that may stay."""
LEFT_BY_TRAINING = 0.15
"""What a short training leaves of the divergence of zeros and bits, against that of other parts.

Channels and blocks are measured with later layers refit, zeros and bits as they are: a training makes
up for more of these. After it a ResNet-20 had lost 0.5 to 1.7 points of accuracy for 1 of divergence by
zeros and bits, but 8 for 1 that was mostly of channels (docs/experiments.md).
"""
_GAP_BITS = 2.2  # About what a packed file adds to each nonzero weight.
_NB_WIDTHS = 16
_BLOCK_BATCHES = 4


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


def _widths(size: int) -> list[int]:
  """Numbers of channels that a unit may keep, falling to one: about sixteen."""
  step = max(size // _NB_WIDTHS, 1)
  return sorted({1, *range(size - step, 0, -step)} - {size}, reverse=True)


def channel_choices(
  scene: Scene, graph: ChannelGraph, units: Sequence[Unit], curves: Mapping[str, Any]
) -> list[Choice]:
  """Levels of units of channels; `curves` by unit name."""
  density = _density(scene)

  def rows(masks: Sequence[np.ndarray]) -> dict[str, tuple[int, int]]:
    costs = layer_costs(plan_of(graph, units, masks))
    return {cost.name: (cost.macs_at(cost.kept), cost.params) for cost in costs}

  whole_masks = [np.ones(unit.size, bool) for unit in units]
  additive = scene.cost in ('macs', 'bytes')
  whole = _by_layer(scene, rows(whole_masks), density) if units and additive else 0.0
  memory = scene.memory
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
      elif memory is not None:
        savings.append(memory.form.relief(place, unit.size - number))
      else:
        savings.append(scene.ms_by_part.get(unit.name, 0.0) * (unit.size - number))
    found.append(
      Choice(
        unit.name,
        'channels',
        (unit.size, *kept),
        (0.0, *losses.tolist()),
        _from_nothing(savings),
        inside.get(unit.name),
        None if memory is None else memory.held,
      )
    )
  return found


def _from_nothing(savings: Sequence[Any]) -> Any:
  """Savings by level, the first of which saves nothing: numbers, or arrays over operators."""
  if np.ndim(savings[0]):
    return np.stack([np.zeros_like(savings[0]), *savings])
  return (0.0, *savings)


def _owners(model: keras.Model, units: Sequence[Unit]) -> dict[str, str]:
  """The residual block that would take a unit along, by unit name."""
  names = set(flatten_model(model).layers())
  found = {}
  for block in residual_blocks(model):
    gone = names - set(flatten_model(drop_block(model, block)).layers())
    found |= {unit.name: block for unit in units if gone.issuperset(unit.readers)}
  return found


def block_choices(scene: Scene, samples: Any, repair: Repair) -> list[Choice]:
  """Residual blocks, judged by the outputs of the network without each for inputs [n, ...].

  Later layers are refit as they are when a block is taken, so that blocks and channels, which are
  measured refit, are on one scale; on some of the batches of `repair`, because each block has a refit.
  """
  model, task = scene.model, scene.settings.helper.task
  names = residual_blocks(model)
  if not names:
    return []
  size, few = inference_batch(flatten_model(model), 250), repair.on_few(_BLOCK_BATCHES)
  before, density = _outputs(model, samples, size), _density(scene)
  whole = _block_cost(scene, model, density)
  found = []
  for name in names:
    less = drop_block(model, name)
    if is_skipped(scene, model, less):
      continue
    taken = [Taken(name, 'block', 1, 0, 0.0)]
    refit = refit_without_blocks(model, taken, scene.reach, few)
    loss = float(np.mean(task.divergence(before, _outputs(refit, samples, size))))
    held = None
    if scene.cost == 'latency':
      saving = scene.ms_by_part.get(name, 0.0)
    elif scene.memory is not None:
      names, held = list(flatten_model(model).layers()), scene.memory.held
      gone = set(names) - set(flatten_model(less).layers())
      saving = scene.memory.form.relief_without(gone, names)
    else:
      saving = whole - _block_cost(scene, less, density)
    losses = (0.0, max(loss, 0.0))
    found.append(Choice(name, 'block', (1, 0), losses, _from_nothing([saving]), held=held))
  return found


def is_skipped(scene: Scene, model: keras.Model, less: keras.Model) -> bool:
  """Whether a layer that goes with a block was named as one that stays."""
  gone = set(flatten_model(model).layers()) - set(flatten_model(less).layers())
  return any(fnmatch.filter(gone, pattern) for pattern in scene.reach.skip)


def _block_cost(scene: Scene, model: keras.Model, density: Mapping[str, float]) -> float:
  if scene.cost in ('latency', 'ram'):
    return 0.0
  rows = {row.name: (row.macs, row.params) for row in count(model).layers}
  return _by_layer(scene, rows, density)


def _outputs(model: keras.Model, samples: Any, size: int) -> Any:
  parts = [
    nested.as_numpy(model(nested.rows(samples, slice(start, start + size)), training=False))
    for start in range(0, nested.size(samples), size)
  ]
  return nested.joined(parts)


def weight_choices(
  scene: Scene, kernels: Mapping[str, Any], curves: Mapping[str, Any]
) -> list[Choice]:
  """Zeros and bits of kernels; `curves` by what `ZEROS` or `BITS` puts before a kernel's name.

  Their losses are what a short training leaves (`LEFT_BY_TRAINING`).
  """
  found = []
  for name, kernel in kernels.items():
    whole, bits = int(np.count_nonzero(kernel.numpy())), scene.bits[name]
    each = (bits + _GAP_BITS) / 8
    if ZEROS + name in curves:
      kept = [round(share * whole) for share in SPARSER]
      losses = [LEFT_BY_TRAINING * loss for _, loss in curves[ZEROS + name][1:]]
      savings = [(whole - number) * each for number in kept]
      found.append(Choice(ZEROS + name, 'zeros', (whole, *kept), (0.0, *losses), (0.0, *savings)))
    if BITS + name in curves:
      loss = LEFT_BY_TRAINING * curves[BITS + name][-1][1]
      found.append(Choice(BITS + name, 'bits', (bits, bits - 1), (0.0, loss), (0.0, whole / 8)))
  return found
