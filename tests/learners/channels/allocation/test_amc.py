import functools

import numpy as np
import pytest
import tensorflow as tf

from secateurs.learners import get_learner
from secateurs.learners.channels.allocation.amc import (
  NB_FEATURES,
  Episode,
  Schedule,
  Search,
  best_episode,
  walk,
)
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.ddpg import Agent, Constants
from secateurs.learners.channels.cp_config import CpConfig
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.utils.errors import UserError
from secateurs.utils.json_lines import read_records

SIZES = (8, 12, 6)
QUICK = {'amc_nb_episodes': 4, 'amc_nb_random': 2, 'nb_smpls_reward': 60, 'nb_batches': 2}


@pytest.fixture
def choices():
  """Costs of neighbours multiply, as those of convolutions do."""
  units = [Unit(f'u{i}', i, size, (f'u{i}',), {}) for i, size in enumerate(SIZES)]

  def cost(gone):
    a, b, c = (size - less for size, less in zip(SIZES, gone, strict=True))
    return 3 * a + a * b + b * c + 10 * c

  return Choices(None, units, cost=cost, least={'u0': 2, 'u1': 3, 'u2': 2})


@pytest.mark.parametrize('share', [0.25, 0.5, 0.9])
def test_every_walk_meets_the_budget_and_keeps_what_the_wall_allows(choices, share):
  """By a slow search of the most that may stay at each step."""
  rng = np.random.default_rng(0)
  budget = max(share * choices.cost_at([0, 0, 0]), choices.least())
  lowest = {'u0': 2, 'u1': 3, 'u2': 2}
  for _ in range(20):
    actions = rng.random(3)
    counts, steps = walk(choices, budget, functools.partial(_next, iter(actions)))
    assert choices.cost(counts) <= budget
    done = {}
    for unit, action in zip(choices.units, actions, strict=True):
      allowed = [
        n
        for n in range(lowest[unit.name], unit.size + 1)
        if choices.cost({**lowest, **done, unit.name: n}) <= budget
      ]
      wanted = min(
        range(lowest[unit.name], unit.size + 1), key=lambda n: abs(n - action * unit.size)
      )
      done[unit.name] = min(wanted, max(allowed))
    assert counts == done
    assert [step.action for step in steps] == [counts[u.name] / u.size for u in choices.units]
    assert all(step.state.shape == (NB_FEATURES,) for step in steps)
    assert all(np.isfinite(step.state).all() for step in steps)


def _next(actions, state):
  return next(actions)


def test_an_update_is_that_of_the_equations():
  """One step of critic, actor and slow copies, by hand."""
  constants = Constants(hidden=5, batch=8, rate_actor=1e-2, rate_critic=1e-2, tau=0.1)
  agent = Agent(3, constants, 0)
  rng = np.random.default_rng(1)
  for number in range(4):
    agent.remember(*_transition(rng, number))
  memory = list(agent._memory)
  places = np.random.default_rng([0, 2]).integers(0, 4, 8)
  nets = agent._actor, agent._critic, agent._slow_actor, agent._slow_critic
  before = [[w.numpy() for w in net.trainable_variables] for net in nets]
  states, actions, rewards, after, last = (
    np.array(part, np.float32) for part in zip(*(memory[i] for i in places), strict=True)
  )
  rewards = rewards - rewards.mean()
  following = nets[3]([after, nets[2](after)]).numpy()[:, 0]
  targets = rewards + (1 - last) * following
  with tf.GradientTape() as tape:
    error = tf.reduce_mean((nets[1]([states, actions[:, None]])[:, 0] - targets) ** 2)
  gradients = tape.gradient(error, nets[1].trainable_variables)
  agent.update()
  # Adam's first step is one rate along the sign of each gradient that is not tiny.
  for weight, old, gradient in zip(nets[1].trainable_variables, before[1], gradients, strict=True):
    moved = np.abs(gradient) > 1e-4
    expected = old - 1e-2 * np.sign(gradient)
    np.testing.assert_allclose(weight.numpy()[moved], expected[moved], atol=4e-4)
  for slow, fast, old in ((nets[2], nets[0], before[2]), (nets[3], nets[1], before[3])):
    for one, other, start in zip(slow.trainable_variables, fast.trainable_variables, old):
      np.testing.assert_allclose(one, 0.9 * start + 0.1 * other.numpy(), rtol=1e-5, atol=1e-7)


def _transition(rng, number):
  state, after = rng.normal(size=(2, 3)).astype(np.float32)
  return state, rng.random(), rng.random(), after, number % 2 == 1


def reward(counts):
  """The best network within half of the cost has whole first and last layers."""
  return counts['u0'] / 8 + counts['u2'] / 6 - 0.5 * counts['u1'] / 12


def test_the_agent_learns_what_pays(choices, tmp_path):
  budget = 0.6 * choices.cost_at([0, 0, 0])
  schedule = Schedule(nb_episodes=100, nb_random=30)
  constants = Constants(hidden=32, memory=300, rate_actor=1e-3)
  episodes = Search(choices, budget, schedule, constants, reward, tmp_path / 'e', 0).run()
  rewards = [episode.reward for episode in episodes]
  assert np.mean(rewards[-20:]) > np.mean(rewards[:30]) + 0.1
  assert best_episode(episodes).reward == max(rewards)
  assert all(episode.cost <= budget for episode in episodes)


def test_a_stopped_search_goes_on_to_the_same_end(choices, tmp_path):
  budget = 0.6 * choices.cost_at([0, 0, 0])
  schedule, constants = Schedule(nb_episodes=20, nb_random=8), Constants(hidden=8, memory=100)

  def search(path, judge):
    return Search(choices, budget, schedule, constants, judge, path, 0).run()

  whole = search(tmp_path / 'whole', reward)
  lines = (tmp_path / 'whole').read_text().splitlines(keepends=True)
  assert read_records(tmp_path / 'whole', Episode) == whole
  (tmp_path / 'cut').write_text(''.join(lines[:11]) + lines[11][:9])
  judged = []

  def judge(counts):
    judged.append(counts)
    return reward(counts)

  assert search(tmp_path / 'cut', judge) == whole
  assert len(judged) <= 9
  assert (tmp_path / 'cut').read_text() == (tmp_path / 'whole').read_text()


@pytest.mark.parametrize('name', ['chn-pruned', 'filter-pruned'])
def test_a_learner_asks_the_agent(name, make, baseline):
  config = {'prune_option': 'amc', 'preserve_ratio': 0.6, **QUICK}
  learner = make(name, run={'warm_start_path': baseline}, **config)
  result = learner.train()
  report = result.report
  assert report['requested'] == {'macs_ratio': 0.6}
  assert report['achieved']['macs_ratio'] <= 0.6 + 1e-9
  search = report['extra']['search']
  assert search['episodes'] == 4
  kept = {name: len(channels) for name, channels in learner.state.kept.items()}
  assert kept == search['counts']
  assert report['extra']['colony']['best so far'][-1][1] == pytest.approx(search['reward'])


@pytest.mark.parametrize('name', ['chn-pruned', 'filter-pruned'])
def test_a_budget_below_the_agents_floors_is_refused(name, make, baseline):
  learner = make(
    name, run={'warm_start_path': baseline}, prune_option='amc', preserve_ratio=0.01, **QUICK
  )
  prefix = get_learner(name).Config.prefix
  with pytest.raises(UserError, match=rf'--{prefix}preserve_ratio asks .*--{prefix}amc_least'):
    learner.train()


@pytest.mark.parametrize('name', ['dis-chn-pruned', 'filter-pruned'])
def test_a_ratio_below_the_agents_floors_is_refused(name, make, baseline):
  config = {**QUICK, 'prune_option': 'amc', 'prune_ratio': 0.95}
  if name == 'dis-chn-pruned':
    del config['nb_batches']
  learner = make(name, run={'warm_start_path': baseline}, **config)
  prefix = get_learner(name).Config.prefix
  text = rf'--{prefix}prune_ratio 0.95 asks for 0.* stay .*: lower it, .*--{prefix}amc_least'
  with pytest.raises(UserError, match=text):
    learner.train()


def test_most_episodes_are_the_agents():
  nb_random = [
    CpConfig(prune_option='amc', amc_nb_episodes=n).amc_schedule.nb_random
    for n in (800, 1600, 40, 4)
  ]
  assert nb_random == [100, 100, 5, 0]
  assert CpConfig(prune_option='amc', amc_nb_random=30).amc_schedule.nb_random == 30
  for nb_episodes in (5, 6):
    with pytest.raises(UserError, match='--fp_amc_nb_random 6 leaves the agent none of'):
      FpConfig(prune_option='amc', amc_nb_episodes=nb_episodes, amc_nb_random=6)


@pytest.mark.parametrize('fixed', [('u0',), ('u1', 'u2'), ('u0', 'u1', 'u2')])
def test_what_an_agent_sees_are_fractions_where_widths_are_given(fixed):
  units = [Unit(f'u{i}', i, size, (f'u{i}',), {}) for i, size in enumerate(SIZES)]
  given = Choices(
    None,
    units,
    cost=lambda gone: 26.0 - np.sum(gone),
    least={unit.name: unit.size if unit.name in fixed else 2 for unit in units},
  )
  for budget in (given.least(), 24.0, 26.0):
    budget = max(budget, given.least())
    counts, steps = walk(given, budget, lambda state: 0.5)
    assert given.cost(counts) <= budget
    for step in steps:
      assert ((step.state >= 0) & (step.state <= 1)).all(), step.state


def test_flags_of_the_agent_that_would_do_nothing_are_refused():
  with pytest.raises(UserError, match='--cp_amc_nb_episodes 9 has an effect only with'):
    CpConfig(amc_nb_episodes=9)
  for config in (CpConfig, FpConfig):
    with pytest.raises(UserError, match='amc has a budget of MACs'):
      config(prune_option='amc', target_latency=0.5)
