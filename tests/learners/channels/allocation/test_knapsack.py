"""Widths of least loss within a cost: against trying everything, and in a learner by a table."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from secateurs.learners.channels.allocation import timed
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.knapsack import within_cost
from secateurs.learners.channels.cuts.cutting import first_channels, plan_of
from secateurs.learners.channels.cuts.units import Unit, find_units
from secateurs.utils.deploy.latency_table import measure, npu
from secateurs.utils.deploy.latency_table.table import LatencyTable, SegmentTimes, read_table
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan, count

_CALL_MS = 3.2e4  # What the fake compiler adds to one for each parameter.


def choices_of(sizes, cost):
  units = [Unit(f'u{i}', i, size, (), {}) for i, size in enumerate(sizes)]
  return Choices(None, units, 2, cost)


def losses_of(choices, rng):
  return {
    unit.name: np.concatenate([[0], np.cumsum(rng.exponential(1, unit.size))])
    for unit in choices.units
  }


def best(choices, budget, losses):
  """The least loss, by trying every combination."""
  found = np.inf
  for places in itertools.product(*(range(len(levels)) for levels in choices.levels)):
    if choices.cost_at(places) <= budget:
      counts = choices.counts_at(places)
      found = min(found, loss(choices, counts, losses))
  return found


def loss(choices, counts, losses):
  return sum(losses[unit.name][unit.size - counts[unit.name]] for unit in choices.units)


@pytest.mark.parametrize('seed', range(5))
def test_costs_of_single_units_are_solved_exactly(seed):
  rng, sizes = np.random.default_rng(seed), (8, 6, 10, 8)
  steps = [np.cumsum(rng.exponential(1, size + 1)) for size in sizes]
  whole = sum(step[-1] for step in steps)

  def cost(gone):
    return whole - sum(step[n] - step[0] for step, n in zip(steps, gone, strict=True))

  choices = choices_of(sizes, cost)
  losses = losses_of(choices, rng)
  for part in (0.5, 0.8):
    budget = choices.least() + part * (choices.cost_at([0] * 4) - choices.least())
    counts = within_cost(choices, budget, losses)
    assert choices.cost(counts) <= budget
    assert loss(choices, counts, losses) == pytest.approx(best(choices, budget, losses))


@pytest.mark.parametrize('seed', range(5))
def test_costs_of_pairs_meet_the_budget_and_come_near_the_best(seed):
  rng, sizes = np.random.default_rng(seed), np.array((8, 8, 6, 8))

  def cost(gone):
    left = np.array([3, *(sizes - gone), 4])
    return float((left[1:] * left[:-1]).sum())

  choices = choices_of(sizes, cost)
  losses = losses_of(choices, rng)
  budget = 0.5 * choices.cost_at([0] * 4)
  counts = within_cost(choices, budget, losses)
  assert choices.cost(counts) <= budget
  assert loss(choices, counts, losses) <= 1.1 * best(choices, budget, losses)
  with pytest.raises(ValueError, match='At least'):
    within_cost(choices, choices.least() - 1, losses)


@pytest.fixture
def table_file(helper, tmp_path, monkeypatch):
  """A table of LeNet on this machine in which time is linear in widths."""

  def times(table, segment, inputs, outputs):
    del table
    made = outputs if segment.makes else [1]
    ms = [[(1.0 + taken) * (1 + one) for one in made] for taken in inputs]
    return SegmentTimes(segment.text, inputs, made, ms)

  monkeypatch.setattr(measure, '_times', times)
  monkeypatch.setattr(measure, '_time', lambda table, contents, *_: [(0.001, 0.0)] * len(contents))
  monkeypatch.setattr(measure, 'fit_scale', lambda *_: measure.scale_of([1, 2], [1, 2]))
  table = LatencyTable(timed.processor.describe(), 'a runtime', 1, 'float')
  graph = ChannelGraph(helper.build_model(0))
  measure.make_table(table, graph, tmp_path / 'table.json', lambda _: None)
  return str(tmp_path / 'table.json')


@pytest.mark.parametrize('name', ['chn-pruned', 'filter-pruned'])
def test_a_learner_meets_the_time_of_a_table(make, baseline, table_file, monkeypatch, name):
  # The real file takes a tenth more than predicted: the budget is corrected by it.
  predicted = []
  monkeypatch.setattr(timed, '_ratio', lambda *_: 1.1 * predicted[-1])
  within = timed.within_cost

  def noted(choices, budget, losses):
    counts = within(choices, budget, losses)
    predicted.append(choices.cost(counts) / choices.cost_at([0] * len(choices.units)))
    return counts

  monkeypatch.setattr(timed, 'within_cost', noted)
  result = make(
    name,
    run={'warm_start_path': baseline},
    training={'nb_epochs_ft': 0.05},
    nb_batches=2,
    target_latency=0.6,
    latency_table=table_file,
  ).train()
  found = result.report['extra']['latency']
  assert len(predicted) > 1
  assert found['measured'] == pytest.approx(0.6, rel=0.1)
  assert found['measured'] == pytest.approx(1.1 * found['predicted'])
  assert result.report['requested'] == {'latency_ratio': 0.6}
  assert result.report['achieved']['macs_ratio'] == pytest.approx(found['fraction'])


@pytest.fixture
def npu_file(table_file, monkeypatch):
  """The same table as one of an NPU, and a compiler that takes whole networks to be slower."""
  table = read_table(table_file)
  table.device, table.kind = 'ethos-u55-128', 'int8'
  table.write(table_file)

  def compiled(path, device):
    assert device == table.device
    return SimpleNamespace(ms=_CALL_MS + float(Path(path).read_bytes()))

  monkeypatch.setattr(npu, 'is_installed', lambda: True)
  monkeypatch.setattr(npu, 'devices', lambda: [table.device])
  monkeypatch.setattr(npu, 'content_of', lambda model, kind: b'%d' % model.count_params())
  monkeypatch.setattr(npu, 'npu_cost', compiled)
  return table_file


@pytest.mark.parametrize('installed', [True, False])
def test_a_target_for_an_npu_is_corrected_by_its_compiler(helper, npu_file, monkeypatch, installed):
  monkeypatch.setattr(npu, 'is_installed', lambda: installed)
  graph = ChannelGraph(helper.build_model(0))
  units = find_units(graph, 'couple').units
  losses = {unit.name: np.arange(unit.size + 1) / unit.size for unit in units}
  asked = timed.Timed(0.6, npu_file, 'cp_', Path('no.tflite'), 2)

  def masks(counts):
    return [np.arange(unit.size) < counts[unit.name] for unit in units]

  counts, figures = timed.allocate(asked, graph, units, losses, masks)
  if not installed:  # The table alone.
    assert figures['predicted'] == pytest.approx(0.6, rel=0.1)
    assert 'measured' not in figures
    return
  params = [
    apply_plan(plan_of(graph, units, masks(one))).count_params()
    for one in (counts, {unit.name: unit.size for unit in units})
  ]
  assert figures['measured'] == pytest.approx((_CALL_MS + params[0]) / (_CALL_MS + params[1]))
  assert figures['measured'] == pytest.approx(0.6, rel=timed.TOLERANCE)
  assert abs(figures['predicted'] - 0.6) > 0.05  # The table alone would have missed.


def test_the_fastest_network_is_not_the_last_one_where_it_is_faster_than_asked(
  helper, table_file, monkeypatch
):
  graph = ChannelGraph(helper.build_model(0))
  units = find_units(graph, 'couple').units
  losses = {unit.name: np.arange(unit.size + 1) / unit.size for unit in units}
  least = {unit.name: unit.size // 2 for unit in units}
  whole = graph.counts().macs

  def ratio(
    asked, model
  ):  # The table is wrong: its 0.8 is too slow, and its least faster than asked.
    return max(asked.target + 3 * (count(model).macs / whole - 0.78), 0.65)

  monkeypatch.setattr(timed, '_ratio', ratio)
  asked = timed.Timed(0.8, table_file, 'cp_', Path('no.tflite'), 1)
  _, figures = timed.allocate(asked, graph, units, losses, first_channels(units), least)
  assert figures['measured'] == pytest.approx(0.8, rel=timed.TOLERANCE)


def test_the_next_goal_is_in_proportion_then_between():
  assert timed.next_goal([(0.5, 0.6)], 0.5) == pytest.approx(0.5 * 0.5 / 0.6)
  assert timed.next_goal([(0.5, 0.6), (0.42, 0.4)], 0.5) == pytest.approx(0.46)
  assert timed.next_goal([(0.5, 0.6), (0.42, 0.4), (0.46, 0.55)], 0.5) == pytest.approx(0.44)


def test_an_npu_that_refuses_the_network_is_an_error(helper, npu_file, monkeypatch):
  def refuse(path, device):
    raise UserError(f'Vela cannot compile {path} for {device}.')

  monkeypatch.setattr(npu, 'npu_cost', refuse)
  with pytest.raises(UserError, match=r'cannot be compiled for ethos-u55-128 .*target in MACs'):
    npu.whole_ms(helper.build_model(0), read_table(npu_file))


def test_flags_of_the_table_are_checked_before_work(make, baseline, tmp_path):
  with pytest.raises(UserError, match='no target was given: give --cp_target_latency'):
    make('chn-pruned', latency_table='x.json')
  learner = make('chn-pruned', target_latency=0.5, latency_table=str(tmp_path / 'no.json'))
  with pytest.raises(UserError, match=r'--cp_latency_table .*no\.json does not exist'):
    learner.train()
