"""Widths that meet a target in latency by a table, checked on the real file."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.knapsack import within_cost
from secateurs.learners.channels.allocation.latency import latency_ratio
from secateurs.learners.channels.cuts.cutting import latency_form, macs_form, plan_of
from secateurs.learners.channels.cuts.even_splits import even_masks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.console import say
from secateurs.utils import processor
from secateurs.utils.deploy.latency_table import npu
from secateurs.utils.deploy.latency_table.grid import output_grid
from secateurs.utils.deploy.latency_table.table import LatencyTable, read_table
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan
from secateurs.utils.training import distributed

TOLERANCE = 0.03
_MAX_ROUNDS = 8
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
    even: whether parts of splits stay equally wide.
  """

  target: float
  table: str
  prefix: str
  original: Path
  nb_threads: int
  even: bool = True


def asked_by(config: Any, original: Path, nb_threads: int) -> Timed:
  """What flags ask for; `config` has `target_latency`, `latency_table`, `prefix`, `even_splits`."""
  return Timed(
    config.target_latency,
    config.latency_table,
    config.prefix,
    original,
    nb_threads,
    config.even_splits,
  )


def allocate(
  asked: Timed,
  graph: ChannelGraph,
  units: Sequence[Unit],
  losses: Mapping[str, np.ndarray],
  masks: Masks,
  least: Mapping[str, int] | None = None,
) -> tuple[dict[str, int], dict[str, float]]:
  """Numbers of channels of the least loss within the time.

  The network that they give is timed, or compiled where the table is of an NPU; where its time is not
  the target's, the budget is corrected by as much, and widths are chosen again.

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
    UserError: the table is none of this network, the target is out of reach, or the NPU's compiler
      refuses the network.
  """
  table = read_table(asked.table, f'{asked.prefix}latency_table')
  here = table.device == processor.describe()
  if here and table.threads != asked.nb_threads:
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

  def cut(counts: Mapping[str, int]) -> keras.Model:
    stay = even_masks(graph, units, masks(counts), even=asked.even)
    return apply_plan(plan_of(graph, units, stay))

  ratio: Callable[[keras.Model], float] | None = None
  if here:
    ratio = functools.partial(_ratio, asked)
  elif npu.is_of_npu(table):
    ratio = _npu_ratio(table, cut({unit.name: unit.size for unit in units}))
  goal, tried, known = asked.target, [], {}
  for _ in range(1 if ratio is None else _MAX_ROUNDS):
    goal = max(goal, lowest)
    counts = within_cost(choices, goal * whole, losses)
    gone = tuple(unit.size - counts[unit.name] for unit in units)
    figures = {
      'fraction': macs(np.array(gone)) / graph.counts().macs,
      'predicted': choices.cost(counts) / whole,
    }
    if ratio is None:
      _say(figures)
      return counts, figures
    if gone not in known:
      known[gone] = ratio(cut(counts))
      _say({**figures, 'measured': known[gone]})
    figures['measured'] = measured = known[gone]
    tried.append((goal, counts, figures))
    if abs(measured / asked.target - 1) <= TOLERANCE:
      break
    if goal <= lowest and measured > asked.target:  # Nothing is faster.
      break
    goal = next_goal([(one[0], one[2]['measured']) for one in tried], asked.target)
  return min(tried, key=lambda one: abs(one[2]['measured'] - asked.target))[1:]


def next_goal(tried: Sequence[tuple[float, float]], target: float) -> float:
  """What to ask the table for next: in proportion, and by bisection once both sides are known.

  Args:
    tried: what was asked for and what was measured of it, in order.
    target: what is to be measured.
  """
  above = [goal for goal, measured in tried if measured > target]
  below = [goal for goal, measured in tried if measured <= target]
  if above and below:
    return (min(above) + max(below)) / 2
  goal, measured = tried[-1]
  return goal * target / measured


def _ratio(asked: Timed, model: keras.Model) -> float:
  return latency_ratio(asked.original, model, asked.nb_threads)


def _npu_ratio(table: LatencyTable, original: keras.Model) -> Callable[[keras.Model], float]:
  """Estimates whole networks by the NPU's compiler: it plans them otherwise than their layers alone."""

  def ms(model: keras.Model) -> float:
    return distributed.from_chief(lambda: npu.whole_ms(model, table))

  whole = ms(original)
  return lambda model: ms(model) / whole


def _say(figures: Mapping[str, float]) -> None:
  measured = f', measured {figures["measured"]:.3f}' if 'measured' in figures else ''
  say(
    f'latency  widths by the table: {figures["fraction"]:.3f} of the MACs, predicted '
    f'{figures["predicted"]:.3f} of the latency{measured}'
  )
