"""Widths that meet a target in latency by a table, checked on the real file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.knapsack import within_cost
from secateurs.learners.channels.allocation.latency import latency_ratio
from secateurs.learners.channels.cuts.cutting import latency_form, macs_form, plan_of
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.console import say
from secateurs.utils import processor
from secateurs.utils.deploy.latency_table.grid import output_grid
from secateurs.utils.deploy.latency_table.table import read_table
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan

TOLERANCE = 0.03
_MAX_ROUNDS = 4
Masks = Callable[[Mapping[str, int]], Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Timed:
  """What is asked for.

  Attributes:
    target: latency as a fraction of the original's, in (0, 1].
    table: file of the table.
    prefix: of the flags that messages name.
    original: the original's .tflite file.
    nb_threads: of the timing.
  """

  target: float
  table: str
  prefix: str
  original: Path
  nb_threads: int


def allocate(
  asked: Timed,
  graph: ChannelGraph,
  units: Sequence[Unit],
  losses: Mapping[str, np.ndarray],
  masks: Masks,
  least: Mapping[str, int] | None = None,
) -> tuple[dict[str, int], dict[str, float]]:
  """Numbers of channels of the least loss within the time.

  The network that they give is timed; where its time is not the target's, the budget is corrected by as
  much, and widths are chosen again.

  Args:
    asked: target and table.
    graph: of the network.
    units: what may be pruned.
    losses: by unit name, [size + 1], after so many channels have gone.
    masks: the channels that stay, bool array [unit.size] by unit, from their numbers.
    least: numbers of channels that stay at least, by unit name.

  Returns:
    Channels that stay by unit name, and figures: `fraction` of the MACs, latency `predicted` and
    `measured` as fractions of the original's.

  Raises:
    UserError: the table is none of this network, or the target is out of reach.
  """
  table = read_table(asked.table, f'{asked.prefix}latency_table')
  if table.threads != asked.nb_threads:
    say(
      f'Warning: {asked.table} is for {table.threads} thread(s), but the timing runs on '
      f'{asked.nb_threads} (--bench_threads).'
    )
  choices = Choices(
    graph, units, cost=latency_form(table, graph, units), least=least, grid=output_grid
  )
  macs = macs_form(graph, units)
  whole = choices.cost({unit.name: unit.size for unit in units})
  lowest = choices.least() / whole
  if lowest > asked.target:
    raise UserError(
      f"--{asked.prefix}target_latency asks for {asked.target:g} of the original's latency, but by the "
      f'table at least {lowest:.3f} stay whatever is pruned: raise it, or prune more with '
      f'--{asked.prefix}trunk.'
    )
  here = _is_this_machine(table.device)
  goal, tried = asked.target, []
  for _ in range(_MAX_ROUNDS if here else 1):
    counts = within_cost(choices, max(goal, lowest) * whole, losses)
    gone = np.array([unit.size - counts[unit.name] for unit in units])
    figures = {
      'fraction': macs(gone) / graph.counts().macs,
      'predicted': choices.cost(counts) / whole,
    }
    if here:
      model = apply_plan(plan_of(graph, units, masks(counts)))
      figures['measured'] = _ratio(model, asked)
    tried.append((counts, figures))
    _say(figures)
    measured = figures.get('measured', asked.target)
    if abs(measured / asked.target - 1) <= TOLERANCE or goal <= lowest < measured:
      break
    goal *= asked.target / measured
  return min(tried, key=lambda one: abs(one[1].get('measured', 0.0) - asked.target))


def _ratio(model: keras.Model, asked: Timed) -> float:
  return latency_ratio(asked.original, model, asked.nb_threads)


def _is_this_machine(device: str) -> bool:
  return device == processor.describe()


def _say(figures: Mapping[str, float]) -> None:
  measured = f', measured {figures["measured"]:.3f}' if 'measured' in figures else ''
  say(
    f'latency  widths by the table: {figures["fraction"]:.3f} of the MACs, predicted '
    f'{figures["predicted"]:.3f} of the latency{measured}'
  )
