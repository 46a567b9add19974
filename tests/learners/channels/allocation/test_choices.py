from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import images, plain_net, randomize, residual_net, twin

from secateurs.learners.channels.allocation.choices import Choices, levels
from secateurs.learners.channels.allocation.reward import Reward
from secateurs.learners.channels.allocation.sensitivity import losses_of, numbers_kept, unit_parts
from secateurs.learners.channels.allocation.solvers import by_price, equal
from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.units import find_units
from secateurs.learners.channels.repair import refits as refits_module
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import prune, statistics
from secateurs.learners.channels.repair.refits import LayerRefits, Solutions
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.judging import Judge
from secateurs.learners.run.training.workers import Workers
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.graph import ChannelGraph, plan_cost
from secateurs.utils.training.tasks.classification import Classification

L = keras.layers
RNG = np.random.default_rng(0)


def macs_of(graph, units, counts):
  """By planning the whole network, not in closed form."""
  masks = [np.arange(unit.size) < count for unit, count in zip(units, counts)]
  return plan_cost(plan_of(graph, units, masks))[0]


def even_losses(units):
  return {unit.name: np.linspace(0, 1, unit.size + 1) ** 2 for unit in units}


@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
@pytest.mark.parametrize('share', [0.4, 0.6, 0.9])
def test_candidates_meet_the_budget_within_one_channel(trunk, share):
  graph = ChannelGraph(cifar_resnet(20))
  units = find_units(graph, trunk).units
  choices = Choices(graph, units)
  prices = choices.prices(even_losses(units))
  budget = share * graph.counts().macs
  factors = np.random.default_rng(0).uniform(0.4, 2.5, len(units))
  factors = {unit.name: factor for unit, factor in zip(units, factors, strict=True)}
  for counts in (by_price(choices, budget, prices, factors), equal(choices, budget)):
    assert choices.cost(counts) == macs_of(graph, units, list(counts.values()))
    numbers = [counts[unit.name] for unit in units]
    assert macs_of(graph, units, numbers) <= budget
    for i, unit in enumerate(units):
      if numbers[i] < unit.size:
        more = [n + (j == i) for j, n in enumerate(numbers)]
        assert macs_of(graph, units, more) > budget
  if trunk == 'keep':
    alike = equal(choices, budget)
    shares = [alike[unit.name] / unit.size for unit in units]
    assert max(shares) - min(shares) < 0.15


def test_a_budget_out_of_reach():
  graph = ChannelGraph(cifar_resnet(20))
  units = find_units(graph, 'keep').units
  choices = Choices(graph, units)
  with pytest.raises(ValueError, match=r'At least \d+ MACs stay'):
    equal(choices, 0.01 * graph.counts().macs)


def reward_of(model, units, **method):
  """The reward, its refits, the network that it works on, and the method."""
  working, method = twin(model), Method(nb_points=20, **method)
  readers = statistics(model, working, units, images(4), method)
  judge = Judge(working, images(1)[0], np.zeros(24, np.int32), Classification(4))
  refits = LayerRefits(model, units, readers, method)
  return Reward(working, refits, judge), refits, working, method


def test_candidates_that_are_judged_at_the_same_time_get_the_same_rewards():
  model = randomize(residual_net())
  units = find_units(ChannelGraph(model), 'couple').units
  method = Method('backward', nb_points=20)
  refits = LayerRefits(
    model, units, statistics(model, twin(model), units, images(4), method), method
  )
  refits.remember()
  tight = LayerRefits(model, units, refits._readers, method)
  tight._solved = Solutions(room=1)
  inputs = images(1)[0]

  def reward(held=refits):
    working = twin(model)
    judge = SimpleNamespace(goodness=lambda: float(np.square(working(inputs)).sum()))
    return Reward(working, held, judge)

  rng = np.random.default_rng(0)
  drawn = [{unit.name: int(rng.integers(1, unit.size)) for unit in units} for _ in range(6)]
  alone = [reward()(counts) for counts in drawn]
  assert len(set(alone)) > 1
  assert list(Workers([reward(), reward()]).map(drawn)) == alone
  assert list(Workers([reward(tight), reward(tight)]).map(drawn)) == alone


@pytest.mark.parametrize(('refit', 'name'), [(True, 'choose_channels'), (False, 'scale_channels')])
def test_what_is_held_is_solved_once_refit_or_scaled(refit, name, monkeypatch):
  model, solved = randomize(residual_net()), []
  units = find_units(ChannelGraph(model), 'keep').units
  method = Method('lasso', refit=refit, nb_points=5)
  for each in ('choose_channels', 'scale_channels'):
    function = getattr(refits_module, each)
    monkeypatch.setattr(
      refits_module,
      each,
      lambda *given, each=each, function=function: solved.append(each) or function(*given),
    )
  held = LayerRefits(model, units, statistics(model, twin(model), units, images(1), method), method)
  held.remember()
  errors = [held.error(units[0], 5) for _ in range(2)]
  assert errors[0] == errors[1] > 0
  assert solved == [name]


def test_what_was_used_longest_ago_goes_where_memory_ends():
  def solution(value):
    return [(np.full((4, 2), value), np.zeros(2))]  # 80 bytes.

  held = Solutions(room=200)
  held.put(('a', 1), solution(1.0))
  held.put(('b', 1), solution(2.0))
  assert held.get(('a', 1))[0][0][0, 0] == 1.0
  held.put(('c', 1), solution(3.0))
  assert held.get(('b', 1)) is None
  assert held.get(('a', 1)) is not None
  assert held.get(('c', 1)) is not None
  endless = Solutions(room=None)
  for number in range(5):
    endless.put(('a', number), solution(number))
  assert all(endless.get(('a', number)) is not None for number in range(5))


@pytest.mark.parametrize('selection', ['random', 'magnitude'])
def test_candidates_are_judged_by_the_method_of_the_run(selection):
  """Without a refit a candidate's network is that of the run."""
  model = randomize(residual_net())
  units = find_units(ChannelGraph(model), 'couple').units
  given = {'selection': selection, 'refit': False, 'seed': 5}
  reward, refits, working, method = reward_of(model, units, **given)
  counts = {unit.name: unit.size // 2 for unit in units}
  reward(counts)
  expected = twin(model)
  kept, _ = prune(model, expected, units, counts, images(4), method)
  for unit in units:
    np.testing.assert_array_equal(refits.keep(unit, counts[unit.name]), kept[unit.name])
  for a, b in zip(working.get_weights(), expected.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


def test_candidates_are_chosen_by_the_scheme_of_the_run(monkeypatch):
  model = randomize(plain_net())
  units = find_units(ChannelGraph(model), 'keep').units
  seen = []
  monkeypatch.setattr(
    'secateurs.learners.channels.repair.choosing.choose',
    lambda *args, alternating, **kwargs: seen.append(alternating) or np.ones(args[1], bool),
  )
  _, refits, _, _ = reward_of(model, units, selection='lasso', alternating=True)
  refits.keep(units[0], 4)
  assert seen == [True]


@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
def test_curves_are_those_of_networks_with_one_unit_pruned(trunk):
  """Each point is the divergence that pruning and refitting this unit alone gives."""
  model = randomize(residual_net())
  units = find_units(ChannelGraph(model), trunk).units
  _, refits, working, method = reward_of(model, units, selection='backward')
  given = images(2)[1]
  curves = divergence.scan(working, unit_parts(working, units, refits), given, Classification(4))
  for a, b in zip(working.get_weights(), model.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6)
  whole = tf.nn.log_softmax(model(given, training=False)).numpy()
  for unit in units:
    pruned = twin(model)
    kept = numbers_kept(unit.size)[2]
    if len(unit.readers) == 1:
      prune(model, pruned, [unit], {unit.name: kept}, images(4), method)
    else:
      refits.apply({layer.name: layer for layer in pruned.layers}, {unit.name: kept})
    now = tf.nn.log_softmax(pruned(given, training=False)).numpy()
    expected = (np.exp(whole) * (whole - now)).sum(axis=-1).mean()
    share, found = curves[unit.name][3]
    assert share == 1 - kept / unit.size
    assert found == pytest.approx(expected, rel=0.05, abs=1e-4)
    assert found > 0
    loss = losses_of(curves, [unit])[unit.name]
    assert loss[0] == 0
    assert (np.diff(loss) >= 0).all()
    assert loss[unit.size - kept] >= found


def test_numbers_that_a_scan_looks_at():
  assert numbers_kept(1) == []
  assert numbers_kept(2) == [1]
  assert numbers_kept(16) == [14, 12, 10, 7, 5, 2, 1]


def test_levels():
  assert levels(5, 1) == [5, 4, 3, 2, 1]
  assert levels(10, 4) == [10, 8, 4]
  assert levels(3, 4) == [3]
