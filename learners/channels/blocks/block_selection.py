"""Choice of channels inside one block of a network, layer by layer, on cached feature maps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.blocks.discrimination import Block, LayerObjective
from secateurs.learners.channels.blocks.greedy import Greedy, UnitPruning
from secateurs.learners.channels.cuts.cutting import dropped_inputs, unit_masks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.console import say
from secateurs.learners.run.preflight.budget import Budget
from secateurs.utils import memory, nested
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import FlatModel, flatten_model
from secateurs.utils.training.engine.progress import format_seconds
from secateurs.utils.training.layerwise.frontier import Frontier
from secateurs.utils.training.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class BlockSelection:
  """What the choice in a block works on.

  Attributes:
    block: the block.
    head: its auxiliary head; None for the last block.
    units: all units of the network.
    counts: channels that stay, by unit name.
    kept: those chosen so far, by unit name; extended in place.
    greedy: how channels are chosen and layers trained.
    task: gives the discrimination-aware loss.
    inputs: this process's samples [n, ...].
    targets: what the network should give for them.
    budget: of memory: where feature maps go, and in how many pieces a batch is run.
  """

  block: Block
  head: keras.Model | None
  units: Sequence[Unit]
  counts: Mapping[str, int]
  kept: dict[str, list[int]]
  greedy: Greedy
  task: Task
  inputs: Any
  targets: Any
  budget: Budget

  def run(
    self, original: keras.Model, model: keras.Model, done: Callable[[dict[str, Any]], None]
  ) -> None:
    """Chooses the channels of the block's units that have not been chosen yet.

    Args:
      original: the network before compression.
      model: the network that is pruned; kernels of the block change.
      done: called after each unit with its record: name, block, kept, of, and losses.
    """
    flats = flatten_model(original), flatten_model(model)
    store = self.budget.store()
    before, now = (Frontier(flat, self.inputs, store) for flat in flats)
    first = first_calls(flats[1])
    clock = _Clock(sum(self._steps(unit) for unit in self.block.units))
    for unit in self.block.units:
      for frontier in (before, now):
        # Each cut in turn even where a resumed run needs the last alone: rounding must not differ.
        frontier.advance(first[unit.readers[0]])
      steps = self._steps(unit)
      if unit.name in self.kept:
        clock.skip(steps)
        continue
      record = self._prune(unit, before, now)
      memory.release()  # The compiled steps of a layer.
      done(record)
      clock.tick(steps)
      say(
        f'block{self.block.number}_select  {unit.name}: {record["kept"]} of {record["of"]} input '
        f'channels{_losses(record)}{clock.eta()}'
      )
    before.close()
    now.close()

  def _steps(self, unit: Unit) -> int:
    """Greedy steps for a unit; with epsilon the most that there may be."""
    if self.greedy.epsilon is None:
      return self.greedy.steps(unit.size, self.counts[unit.name])
    high = self.greedy.bounds(unit)[1]
    return -(-high // self.greedy.pace(unit.size, high))

  def _prune(self, unit: Unit, before: Frontier, now: Frontier) -> dict[str, Any]:
    """Chooses a unit's channels; returns its record."""
    end, head = self._end(unit, now.flat)
    calls = now.flat.calls_by_layer()
    wanted = before.peek([calls[name][0].outputs[0] for name in unit.readers])
    objective = LayerObjective(
      now.flat,
      now.position,
      end,
      head,
      now.tensors,
      wanted,
      nested.as_tensors(self.targets),
      self.task,
    )
    pruning = UnitPruning(
      unit,
      now.flat.layers(),
      objective,
      nested.size(self.targets),
      self.greedy,
      dropped=dropped_inputs(self.units, unit_masks(self.units, self.kept)),
      phase=f'block{self.block.number}_select of layer {unit.name}',
      nb_pieces=self.budget.pieces(
        objective.maps, min(self.greedy.batch_size, nested.size(self.targets)), caches=True
      ),
      part=objective.part,
    )
    target = self.counts[unit.name]
    if self.greedy.epsilon is not None:
      pruning.grow(*self.greedy.bounds(unit))
    elif target < unit.size:
      pruning.run(target)
    else:
      pruning.keep_all()
    for number, maps in wanted.items():
      if number not in before.tensors:
        maps.clear()
    kept = np.flatnonzero(pruning.mask).tolist()
    self.kept[unit.name] = kept
    return {'name': unit.name, 'block': self.block.number, 'kept': len(kept), 'of': unit.size} | {
      name: value for name, value in pruning.means.items() if name != 'loss'
    }

  def _end(self, unit: Unit, flat: FlatModel) -> tuple[int | None, keras.Model | None]:
    """The tensor that L_p is computed from (None: the outputs), and what makes outputs of it.

    For channels that a layer after the block reads, too, L stands in for L_p.
    """
    last = max(first_calls(flat)[name] for name in unit.readers)
    if self.block.tensor is None or last >= self.block.end:
      return None, None
    return self.block.tensor, self.head


class _Clock:
  """Time left of the selection in a block, by its steps."""

  def __init__(self, total: int) -> None:
    self._left, self._done, self._began = total, 0, time.perf_counter()

  def skip(self, steps: int) -> None:
    """Notes steps that an earlier process made."""
    self._left -= steps

  def tick(self, steps: int) -> None:
    """Notes steps that were just made."""
    self._left -= steps
    self._done += steps

  def eta(self) -> str:
    """What to append to a line."""
    if not self._done or not self._left:
      return ''
    seconds = self._left * (time.perf_counter() - self._began) / self._done
    return f'  ETA {format_seconds(seconds)}'


def _losses(record: Mapping[str, Any]) -> str:
  if 'loss_reconstruction' not in record:
    return ''
  return (
    f', reconstruction {record["loss_reconstruction"]:.4f}, discrimination '
    f'{record["loss_discrimination"]:.4f}'
  )
