"""Widths that meet a target in peak activation memory, by the planner of the exported file.

Memory is the most that any operator holds at once, so that narrowing a layer helps only where it lies
at an operator that holds too much. With one level l_u for each unit,

  min  sum_u loss[u, l_u]   subject to   sum_u relief[o, u, l_u] >= held[o] - budget

for each operator o, where `relief` is by how many bytes it holds less: an integer linear program,
solved exactly. An arena may need more than its tensors where they do not fit each other; then the
budget is lowered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.cuts.cutting import macs_form, plan_of
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.console import say
from secateurs.learners.run.one_each import one_each
from secateurs.utils.deploy import tflite_bytes
from secateurs.utils.deploy.devices.memory_form import Held, MemoryForm
from secateurs.utils.deploy.devices.memory_plan import peak_of
from secateurs.utils.deploy.reports.units import fmt_bytes
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan
from secateurs.utils.training import distributed

_MAX_ROUNDS = 12
_LITTLE = 1e-6
Masks = Callable[[Mapping[str, int]], Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Asked:
  """What is asked for.

  Attributes:
    target: peak memory as a fraction of the original's, in (0, 1].
    prefix: of the flags that messages name.
  """

  target: float
  prefix: str


def allocate(
  asked: Asked,
  graph: ChannelGraph,
  units: Sequence[Unit],
  losses: Mapping[str, np.ndarray],
  masks: Masks,
  *,
  step: int = 1,
  least: Mapping[str, int] | None = None,
) -> tuple[dict[str, int], dict[str, Any]]:
  """Numbers of channels of the least loss within the memory, checked on the file that they give.

  Args:
    asked: the target.
    graph: of the network.
    units: what may be pruned.
    losses: by unit name, [size + 1], after so many channels have gone.
    masks: the channels that stay, bool array [unit.size] by unit, from their numbers.
    step: numbers of channels, where not all stay, are multiples of it.
    least: numbers of channels that stay at least, by unit name.

  Returns:
    Channels that stay by unit name, and figures: `fraction` of the MACs, `measured` peak of the file as
    a fraction of the original's (above the `target` only where no narrower file was found), `bytes`,
    the `operator` that holds them, and the units `narrowed`.

  Raises:
    UserError: the target is out of reach; says what holds the memory.
  """
  choices = Choices(graph, units, step, cost=lambda gone: 0.0, least=least)

  def content(counts: Mapping[str, int]) -> bytes:
    model = apply_plan(plan_of(graph, units, masks(counts)))
    return distributed.from_chief(lambda: tflite_bytes(model))

  form = form_of(choices, content)
  whole = form.peak([0] * len(units))
  _require_reachable(asked, form, choices, whole)
  most = budget = asked.target * whole
  counts = within_memory(form, choices, budget, losses)
  tried = peak_of(content(counts))
  for _ in range(_MAX_ROUNDS):  # A file may have other operators, once layers are narrow.
    budget -= max(tried.bytes - most, 0)
    lower = None if tried.bytes <= most else _solved(form, choices, budget, losses)
    if lower is None:
      break
    counts, tried = lower, peak_of(content(lower))
  gone = np.array([unit.size - counts[unit.name] for unit in units])
  figures = {
    'fraction': macs_form(graph, units)(gone) / graph.counts().macs,
    'measured': tried.bytes / whole,
    'target': asked.target,
    'bytes': tried.bytes,
    'operator': f'{tried.kind} {tried.operator}',
    'narrowed': [unit.name for unit, less in zip(units, gone) if less],
  }
  say(
    f'memory  peak {fmt_bytes(tried.bytes)} of {fmt_bytes(whole)} ({figures["measured"]:.3f}), '
    f'{figures["fraction"]:.3f} of the MACs; narrowed are {len(figures["narrowed"])} of {len(units)} '
    'units'
  )
  return counts, figures


def note(figures: Mapping[str, Any]) -> str:
  """What a report says of the memory."""
  missed, target = '', figures.get('target', 1.0)  # Earlier runs did not keep it.
  if figures['measured'] > target:
    missed = (
      f'The target of {target:g} was not met: the file holds more than its layers '
      'predict, and no narrower one was found. '
    )
  return (
    f'{missed}Activations peak at {figures["measured"]:.3f} of the original, '
    f'{fmt_bytes(figures["bytes"])}, which {figures["operator"]} holds. Narrowed for it were '
    f'the channels of {", ".join(figures["narrowed"]) or "no layers"}; others do not hold the peak.'
  )


def form_of(choices: Choices, content: Callable[[Mapping[str, int]], bytes]) -> MemoryForm:
  """The memory of a network in closed form.

  Args:
    choices: the units and their levels.
    content: gives the .tflite file for channels that stay, by unit name.
  """
  whole = {unit.name: unit.size for unit in choices.units}
  less = []
  for unit, levels in zip(choices.units, choices.levels, strict=True):
    kept = levels[1] if len(levels) > 1 else levels[0]
    gone = unit.size - kept
    less.append((content({**whole, unit.name: kept}) if gone else b'', gone))
  return MemoryForm(content(whole), less)


def within_memory(
  form: MemoryForm, choices: Choices, budget: float, losses: Mapping[str, np.ndarray]
) -> dict[str, int]:
  """Numbers of channels of the least sum of losses whose planned arena is within the budget.

  Args:
    form: bytes that are held, by what is gone.
    choices: the table.
    budget: bytes.
    losses: by unit name, [size + 1], after so many channels have gone.

  Raises:
    ValueError: not even the lowest levels meet the budget.
  """
  limit, lowest = budget, None
  for _ in range(_MAX_ROUNDS):
    counts = _solved(form, choices, limit, losses)
    if counts is None:
      break
    lowest = counts
    over = form.peak(_gone(choices, counts)) - budget
    if over <= _LITTLE:
      return counts
    limit -= over
  places = [len(levels) - 1 for levels in choices.levels]
  counts = choices.counts_at(places)
  if form.peak(_gone(choices, counts)) > budget:
    raise ValueError(f'More than {budget} bytes are held whatever goes; nearest: {lowest}.')
  return counts


def _solved(
  form: MemoryForm, choices: Choices, limit: float, losses: Mapping[str, np.ndarray]
) -> dict[str, int] | None:
  """Numbers of channels of the least loss with which no operator holds more; None for none."""
  excess = form.held([0] * len(choices.units)) - limit
  tight = np.flatnonzero(excess > 0)
  if not len(tight):
    return choices.counts_at([0] * len(choices.units))
  values, relief = [], []
  for number, (unit, levels) in enumerate(zip(choices.units, choices.levels, strict=True)):
    gone = unit.size - np.array(levels)
    values.append(np.asarray(losses[unit.name], float)[gone])
    relief.append([form.relief(number, int(one))[tight] for one in gone])
  # Of equal losses those that change least.
  depths = [np.arange(len(levels)) / len(levels) for levels in choices.levels]
  found = one_each(values, relief, excess[tight], ties=depths)
  return None if found is None else choices.counts_at(found)


def _gone(choices: Choices, counts: Mapping[str, int]) -> list[int]:
  return [unit.size - counts[unit.name] for unit in choices.units]


def _require_reachable(asked: Asked, form: MemoryForm, choices: Choices, whole: int) -> None:
  counts = choices.counts_at([len(levels) - 1 for levels in choices.levels])
  gone = _gone(choices, counts)
  least = form.peak(gone)
  if least <= asked.target * whole:
    return
  raise UserError(
    f"--{asked.prefix}target_ram asks for {asked.target:g} of the original's peak of activations "
    f'({fmt_bytes(whole)}), but at least {least / whole:.3f} ({fmt_bytes(least)}) stay whatever is '
    f'pruned: {_holder(form.worst(gone), asked.prefix)}.'
  )


def _holder(held: Held, prefix: str) -> str:
  """What holds the memory that no width changes, and what would."""
  where = f'at {held.kind} {held.name}'
  if held.of_input >= held.bytes / 2:
    return (
      f'{where} the input alone takes {fmt_bytes(held.of_input)}, so raise the target or give smaller '
      'inputs'
    )
  if held.fixed >= held.bytes / 2:
    return (
      f'{where} {fmt_bytes(held.fixed)} are of channels that stay, so raise the target or prune more '
      f'with --{prefix}trunk'
    )
  return (
    f'{where} {held.tensors} tensors are held at once however narrow they are, which depth and not '
    'width decides, so raise the target or take blocks out with joint-search'
  )
