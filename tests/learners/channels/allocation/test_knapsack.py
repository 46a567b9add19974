"""Widths of least loss within a cost: against trying everything, and in a learner by a table."""

import itertools

import numpy as np
import pytest
from alike import alike

from secateurs.learners.channels.allocation import timed
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.knapsack import within_cost
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.deploy.latency_table import measure
from secateurs.utils.deploy.latency_table.table import LatencyTable, SegmentTimes
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph


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
  monkeypatch.setattr(measure, '_time', lambda contents, *_: [(0.001, 0.0)] * len(contents))
  monkeypatch.setattr(measure, 'fit_scale', lambda *_: measure.scale_of([1, 2], [1, 2]))
  table = LatencyTable(timed.processor.describe(), 'a runtime', 1, 'float')
  graph = ChannelGraph(helper.build_model(0))
  measure.make_table(table, graph, tmp_path / 'table.json', lambda _: None)
  return str(tmp_path / 'table.json')


@pytest.mark.parametrize('name', ['chn-pruned', *alike('filter-pruned')])
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
    training={'nb_epochs_ft': 0.5},
    nb_batches=2,
    target_latency=0.6,
    latency_table=table_file,
  ).train()
  found = result.report['extra']['latency']
  assert len(predicted) > 1
  assert found['measured'] == pytest.approx(0.6, rel=0.1)
  assert found['measured'] == pytest.approx(1.1 * found['predicted'])


def test_flags_of_the_table_are_checked_before_work(make, baseline, tmp_path):
  with pytest.raises(UserError, match='no target was given: give --cp_target_latency'):
    make('chn-pruned', latency_table='x.json')
  learner = make('chn-pruned', target_latency=0.5, latency_table=str(tmp_path / 'no.json'))
  with pytest.raises(UserError, match=r'--cp_latency_table .*no\.json does not exist'):
    learner.train()
