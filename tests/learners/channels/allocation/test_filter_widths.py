"""Numbers of channels by budgets, keys and losses; scans of masked networks; the bee colony."""

import dataclasses
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tf_keras as keras
from networks import branched_net, randomize, residual_net, twin

from secateurs.learners.channels.allocation import filter_scan, solvers
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.colony import Colony, Constants, Hive
from secateurs.learners.channels.allocation.fitness import Fitness, Training
from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.filter_widths import FilterWidths
from secateurs.learners.channels.state import WidthState
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.trials import Candidate
from secateurs.learners.run.training.workers import Workers
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, masked, plan_cost
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.tasks.classification import Classification


def ranked_of(model, trunk, seed=0):
  graph = ChannelGraph(model)
  units = filter_units(graph, trunk).units
  rng = np.random.default_rng(seed)
  keys = {unit.name: rng.random(unit.size) for unit in units}
  return Ranked(graph, units, keys, {unit.name: np.zeros(unit.size, bool) for unit in units})


@pytest.fixture(scope='module')
def resnet20():
  model = cifar_resnet(20)
  return {trunk: ranked_of(model, trunk) for trunk in ('keep', 'couple', 'gather')}


def macs(ranked, counts):
  return plan_cost(plan_of(ranked.graph, ranked.units, ranked.masks(counts)))[0]


def require_met(ranked, counts, budget):
  assert macs(ranked, counts) <= budget
  for unit in ranked.units:
    if counts[unit.name] < unit.size:
      assert macs(ranked, {**counts, unit.name: counts[unit.name] + 1}) > budget


@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
@pytest.mark.parametrize(
  'option', ['uniform', 'global', 'per-mac', 'sensitivity', 'auto', 'abc', 'list']
)
def test_each_allocation_meets_a_budget_within_one_channel(resnet20, trunk, option, tmp_path):
  ranked = resnet20[trunk]
  curve = [(0.0, 0.0), (0.3, 0.1), (0.9, 0.5)]
  curves = {unit.name: [(x, y * (1 + i)) for x, y in curve] for i, unit in enumerate(ranked.units)}
  path = tmp_path / 'list'
  path.write_text(' '.join(str(i % 5 / 10) for i in range(len(ranked.units))))
  shares = {unit.name: (1 + i % 10) / 10 for i, unit in enumerate(ranked.units)}
  state = WidthState(
    divergence=curves if option == 'auto' else None,
    drops=curves if option == 'sensitivity' else None,
    shares=shares,
  )
  listed = {'prune_list_file': str(path)} if option == 'list' else {}
  config = FpConfig(prune_option=option, preserve_ratio=0.6, floor=0.05, **listed)
  counts = FilterWidths(config, state).counts(ranked)
  require_met(ranked, counts, 0.6 * ranked.graph.counts().macs)


def test_scores_for_the_macs_that_they_save(resnet20):
  """Of equal scores those go first whose channels are the dearest."""
  ranked = resnet20['keep']
  keys = {unit.name: np.linspace(1.0, 1.01, unit.size) for unit in ranked.units}
  ranked = dataclasses.replace(ranked, keys=keys)
  config = FpConfig(prune_option='per-mac', preserve_ratio=0.8, floor=0.1)
  counts = FilterWidths(config, WidthState()).counts(ranked)
  whole = macs(ranked, {unit.name: unit.size for unit in ranked.units})
  saved = {
    unit.name: whole - macs(ranked, {u.name: u.size - (u is unit) for u in ranked.units})
    for unit in ranked.units
  }
  cut = [saved[unit.name] for unit in ranked.units if counts[unit.name] < unit.size]
  whole_ones = [saved[unit.name] for unit in ranked.units if counts[unit.name] == unit.size]
  assert cut
  assert whole_ones
  assert min(cut) >= max(whole_ones)


def test_budgets_are_exact_where_channels_are_not_alike():
  ranked = ranked_of(branched_net(), 'keep')
  config = FpConfig(prune_option='global', preserve_ratio=0.5, floor=0.0)
  counts = FilterWidths(config, WidthState()).counts(ranked)
  require_met(ranked, counts, 0.5 * ranked.graph.counts().macs)


def test_ratios_without_a_budget(resnet20):
  ranked = resnet20['couple']
  total = sum(unit.size for unit in ranked.units)
  counts = FilterWidths(FpConfig(prune_ratio=0.25), WidthState()).counts(ranked)
  assert all(counts[unit.name] == unit.size - unit.size // 4 for unit in ranked.units)
  config = FpConfig(prune_option='global', prune_ratio=0.25)
  counts = FilterWidths(config, WidthState()).counts(ranked)
  assert sum(counts.values()) == total - total // 4
  gone = sorted(
    key
    for u in ranked.units
    for key in ranked.keys[u.name][~best(ranked.keys[u.name], counts[u.name])]
  )
  everything = np.sort(np.concatenate(list(ranked.keys.values())))
  np.testing.assert_array_equal(gone, everything[: len(gone)])
  half = FilterWidths(config, WidthState()).counts(ranked, 0.5)
  assert sum(half.values()) == total - total // 8
  floors = FpConfig(prune_option='global', prune_ratio=1.0, floor=0.5)
  least = FilterWidths(floors, WidthState()).counts(ranked)
  assert all(least[unit.name] == unit.size // 2 for unit in ranked.units)
  with pytest.raises(UserError, match=r'--fp_preserve_ratio asks for 0.0100.*lower --fp_floor'):
    FilterWidths(FpConfig(preserve_ratio=0.01), WidthState()).counts(ranked)
  low = FilterWidths(FpConfig(prune_option='auto', prune_ratio=0.9, floor=0.5), WidthState())
  with pytest.raises(UserError, match=r'--fp_prune_ratio 0.9 asks for 0.* lower it, .*--fp_floor'):
    low.check(ranked)


def test_losses_and_shares_by_hand(resnet20):
  ranked = resnet20['keep']
  choices = Choices(ranked.graph, ranked.units)
  losses = {unit.name: np.linspace(0, 1 + i, unit.size + 1) for i, unit in enumerate(ranked.units)}
  counts = solvers.within_loss(choices, 0.5, losses)
  for i, unit in enumerate(ranked.units):
    assert counts[unit.name] == unit.size - int(unit.size * 0.5 / (1 + i))
  shares = {unit.name: 0.25 if i else 1.0 for i, unit in enumerate(ranked.units)}
  budget = 0.55 * ranked.graph.counts().macs
  found = solvers.by_shares(choices, budget, shares)
  kept = [found[unit.name] / unit.size for unit in ranked.units]
  assert kept[0] == pytest.approx(min(4 * np.median(kept[1:]), 1), abs=0.13)


def test_a_scan_takes_as_many_samples_as_their_maps_allow(monkeypatch):
  ranked = ranked_of(randomize(residual_net()), 'couple')
  parts = filter_scan.masked_parts(ranked.graph, ranked.units, ranked.keys)
  model = ranked.graph.model
  assert divergence.nb_scanned(model, parts, 40) == 40
  each = max(divergence.bytes_per_image(flatten_model(model), part.start) for part in parts)
  monkeypatch.setattr(divergence, 'MAX_BYTES', 7 * each)
  assert divergence.nb_scanned(model, parts, 40) == 7
  monkeypatch.setattr(divergence.distributed, 'size', lambda: 3)
  assert divergence.nb_scanned(model, parts, 40) == 21
  monkeypatch.setattr(divergence, 'MAX_BYTES', 1)
  assert divergence.nb_scanned(model, parts, 40) == 3  # One for each process.


def test_a_masked_scan_is_the_score_of_masked_networks():
  model = randomize(residual_net())
  ranked = ranked_of(model, 'couple')
  x = np.random.default_rng(3).normal(size=(40, 8, 8, 3)).astype(np.float32)
  labels = model(x).numpy().argmax(axis=1).astype(np.int32)
  labels[::4] = (labels[::4] + 1) % 4
  task = Classification(4)
  parts = filter_scan.masked_parts(ranked.graph, ranked.units, ranked.keys)
  before = model.get_weights()
  found = divergence.scan(model, parts, x, task, targets=labels)
  for one, other in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  other = ranked.graph.again(twin(model))
  further = [(other.model, filter_scan.masked_parts(other, ranked.units, ranked.keys))]
  lines = []
  again = divergence.scan(
    model, parts, x, task, lambda *line: lines.append(line[0]), labels, further
  )
  assert again == found
  assert lines == list(range(1, len(parts) + 1))
  whole = (model(x).numpy().argmax(axis=1) == labels).mean()
  for unit in ranked.units:
    for share, drop in found[unit.name][1:]:
      mask = best(ranked.keys[unit.name], round((1 - share) * unit.size))
      with masked(plan_of(ranked.graph, [unit], [mask])):
        score = (model(x).numpy().argmax(axis=1) == labels).mean()
      assert drop == pytest.approx(whole - score, abs=0.026)  # Maps are held in float16.
  rows = filter_scan.table(found)
  assert list(rows[ranked.units[0].name]) == [f'{t}0%' for t in range(1, 10)]
  assert filter_scan.as_text(found).count('\n') == len(ranked.units)


CONSTANTS = Constants(nb_sources=4, nb_cycles=6, nb_failures=2, max_tenths=9)
GOAL = np.array([9, 1, 5, 3])


def colony(path, judged, seed=0, jobs=1, say=print):
  def fitness(candidate):
    judged.append(candidate)
    if jobs > 1:
      time.sleep(0.001 * (candidate.cost % 3))  # Later ones may be ready earlier.
    codes = np.array(list(candidate.counts.values()))
    return 1 / (1 + np.abs(codes - GOAL).sum())

  def propose(codes):
    return Candidate({f'u{i}': code for i, code in enumerate(codes)}, sum(codes))

  return Colony(4, CONSTANTS, propose, Workers([fitness] * jobs), path, seed, say)


def test_a_colony_finds_better_sources_and_resumes(tmp_path):
  judged = []
  found = colony(tmp_path / 'whole', judged).run()
  # Sources, as many employed bees and onlookers each cycle, and at most a scout.
  assert 4 + 6 * 8 <= found.nb_judged <= 4 + 6 * 9
  assert found.best == sorted(found.best)
  assert found.best[-1] > found.best[0]
  assert len(found.mean) == 7
  lines = [json.loads(line) for line in (tmp_path / 'whole').read_text().splitlines()]
  assert len(lines) == found.nb_judged
  widths = [tuple(line['counts'].values()) for line in lines]
  assert [tuple(one.counts.values()) for one in judged] == list(dict.fromkeys(widths))
  assert len(judged) < len(lines)  # Some come again: their fitness is known.
  assert {line['bee'] for line in lines} >= {'start', 'employed', 'onlooker'}
  assert all(1 <= code <= 9 for line in lines for code in line['codes'])
  assert [line['number'] for line in lines] == list(range(len(lines)))
  # Stopped in the middle of a line, and run again.
  text = (tmp_path / 'whole').read_text()
  (tmp_path / 'part').write_text(text[: text.index('"number": 20') + 9])
  rest = []
  assert colony(tmp_path / 'part', rest).run() == found
  assert len(rest) == len(judged) - len(set(widths[:20]))
  assert (tmp_path / 'part').read_text() == text
  with pytest.raises(UserError, match='candidates of another search'):
    colony(tmp_path / 'part', [], seed=1).run()


@pytest.mark.parametrize('seed', [0, 1])
def test_candidates_at_the_same_time_give_the_same_colony(seed, tmp_path):
  found = colony(tmp_path / 'one', [], seed).run()
  text = (tmp_path / 'one').read_text()
  assert colony(tmp_path / 'three', [], seed, jobs=3).run() == found
  assert (tmp_path / 'three').read_text() == text
  # Stopped among the bees that are sent together.
  (tmp_path / 'three').write_text(''.join(text.splitlines(keepends=True)[:6]))
  assert colony(tmp_path / 'three', [], seed, jobs=3).run() == found
  assert (tmp_path / 'three').read_text() == text


def test_the_time_left_is_that_of_candidates_that_are_judged(tmp_path):
  whole, again, half = [], [], []
  colony(tmp_path / 'c', [], say=whole.append).run()
  assert all('ETA' in line for line in whole)
  colony(tmp_path / 'c', [], say=again.append).run()
  assert again
  assert not any('ETA' in line for line in again)
  lines = (tmp_path / 'c').read_text().splitlines(keepends=True)
  (tmp_path / 'c').write_text(''.join(lines[:25]))  # Two of six cycles, and more.
  colony(tmp_path / 'c', [], say=half.append).run()
  assert ['ETA' in line for line in half] == [False] * 2 + [True] * 4


def test_onlookers_prefer_the_fitter_source_whatever_the_sign_of_the_score():
  hive = Hive([[1], [2], [3]], [0.4, 0.8, 0.0], [0] * 3)
  assert [hive.chance(i) for i in range(3)] == pytest.approx([0.55, 1.0, 0.1])
  hive.fits = [-0.5, -0.1, -0.9]
  assert [hive.chance(i) for i in range(3)] == pytest.approx([0.55, 1.0, 0.1])


@pytest.mark.parametrize(('value', 'after_divergence'), [(0.7, 0.0), (-0.7, -0.7)])
def test_the_fitness_of_an_error_is_below_zero_and_that_of_a_divergence_is_no_gain(
  value, after_divergence
):
  model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
  judge = SimpleNamespace(goodness=lambda: value)
  masks = SimpleNamespace(keep=lambda kept: None)

  def fitness(done):
    step = SimpleNamespace(
      optimizer=SimpleNamespace(variables=[]), run=lambda batches, number: (done, {})
    )
    return Fitness(model, masks, {}, Training(step, [], 2, []), judge)

  assert fitness(2)(Candidate({}, 0)) == value
  assert fitness(1)(Candidate({}, 0)) == after_divergence


def test_employed_bees_change_two_codes(tmp_path):
  colony(tmp_path / 'c', []).run()
  lines = [json.loads(line) for line in (tmp_path / 'c').read_text().splitlines()]
  sources = [line['codes'] for line in lines[:4]]
  first = lines[4]
  assert first['bee'] == 'employed'
  assert sum(a != b for a, b in zip(first['codes'], sources[0])) <= 2
