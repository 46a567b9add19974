"""What choose_channels chooses, slice_model accepts: with every goal, scope and floor."""

import numpy as np
import pytest
import tf_keras as keras
from graph_helpers import check_slice, difference, outputs, random_inputs, randomize
from graph_networks import half_added, random_network, res2net, shufflenet_v2

from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  channel_scores,
  choose_channels,
  load_model,
  plan_cost,
  plan_slice,
  save_model,
  slice_model,
)

L = keras.layers
GOALS = [{'ratio': 0.5}, {'ratio': 1.0}, {'macs': 0.4}, {'params': 0.4}]


def agree(model, seed):
  """Chooses with random options and returns what slicing would be given, already accepted once."""
  rng = np.random.default_rng(seed)
  graph = ChannelGraph(model)
  join = [None, 'sum', 'mean', 'max', 'relative'][rng.integers(5)]
  scores = channel_scores(graph, 'l1', join)
  for goal in GOALS:
    options = {'min_channels': int(rng.integers(0, 4)), 'round_to': int(rng.choice([1, 1, 2, 4]))}
    scope = str(rng.choice(['local', 'global']))
    try:
      keep = choose_channels(graph, scores, **goal, scope=scope, **options)
    except UserError as error:
      if 'out of reach' in str(error):
        continue
      raise
    plan = plan_slice(graph, keep, **options)
    ((name, value),) = goal.items()
    if name != 'ratio' and not plan.held_back:
      cost = dict(zip(('macs', 'params'), plan_cost(plan)))
      assert cost[name] <= value * getattr(graph.counts(), name)
  return graph, keep, options


@pytest.mark.parametrize('seed', range(12))
def test_a_choice_is_always_accepted(seed):
  agree(randomize(random_network(seed), seed), seed)


SEEDS = [
  pytest.param(first, marks=[pytest.mark.exhaustive] if first >= 150 else [])
  for first in range(100, 600, 50)
]


@pytest.mark.slow
@pytest.mark.parametrize('first', SEEDS)
def test_random_networks_are_chosen_sliced_saved_and_sliced_again(first, tmp_path):
  for seed in range(first, first + 50):
    keras.backend.clear_session()
    sliced_twice(seed, tmp_path / f'{seed}.{("keras", "h5")[seed % 2]}')


def sliced_twice(seed, path):
  model = randomize(random_network(seed), seed)
  graph = ChannelGraph(model)
  keep = choose_channels(graph, channel_scores(graph), ratio=0.4)
  small = check_slice(model, keep)
  again = load_model(save_model(small, path))
  images = random_inputs(model)
  assert difference(outputs(small, images), outputs(again, images)) < 1e-5
  graph = ChannelGraph(again)
  check_slice(again, choose_channels(graph, channel_scores(graph), ratio=0.4))
  path.unlink()


@pytest.mark.parametrize('seed', range(3))
def test_a_few_random_networks_are_sliced_twice(seed, tmp_path):
  sliced_twice(seed, tmp_path / 'small.keras')


@pytest.mark.parametrize('build', [half_added, shufflenet_v2, res2net])
def test_split_networks_are_cut_to_half_at_the_defaults(build):
  model = randomize(build())
  graph = ChannelGraph(model)
  scores = channel_scores(graph)
  for goal in ({'ratio': 0.5}, {'macs': 0.3}, {'params': 0.3}):
    check_slice(model, choose_channels(graph, scores, **goal))
  whole = choose_channels(graph, scores, ratio=0.9, min_channels=0)
  check_slice(model, whole, min_channels=0)


def test_the_floor_counts_what_a_reader_of_one_half_gets():
  graph = ChannelGraph(randomize(half_added()))
  scores = channel_scores(graph, 'l1', 'sum')  # favours the half with two producers
  keep = choose_channels(graph, scores, ratio=0.5, min_channels=3)
  assert (np.asarray(keep[0]) < 16).sum() == 3
  both = [*range(16, 32)]
  with pytest.raises(UserError, match="'reader' would keep 0 of its 16 input channels"):
    slice_model(graph, {'both': both})
  # What 'reader' then emits meets a concatenation, so the whole branch cannot go either.
  with pytest.raises(UserError, match='would lose the signal'):
    slice_model(graph, {'both': both}, min_channels=0)


def test_a_branch_that_can_go_whole_is_offered():
  image = keras.Input((6, 6, 3))
  x = L.Conv2D(4, 3, padding='same', name='stem')(image)
  y = L.Conv2D(4, 1, name='outer')(L.Conv2D(6, 1, name='inner')(x))
  x = L.GlobalAveragePooling2D()(L.Add()([x, y]))
  model = randomize(keras.Model(image, L.Dense(2)(x)))
  with pytest.raises(UserError, match='let the whole branch go with min_channels=0'):
    slice_model(model, {'inner': []})
  small = check_slice(model, {'inner': []}, min_channels=0)
  assert 'outer' not in [layer.name for layer in small.layers]


def test_a_branch_that_cannot_go_is_named_and_the_advice_works():
  image = keras.Input((6, 6, 3))
  x = L.Conv2D(4, 3, padding='same', name='inner')(image)
  # Padding around a constant is no constant, and so cannot be merged away.
  gate = L.DepthwiseConv2D(3, padding='same', name='gate')(L.Conv2D(5, 1, name='outer')(x))
  x = L.Concatenate()([gate, L.Conv2D(3, 1, name='side')(image)])
  model = randomize(keras.Model(image, L.Dense(2)(L.GlobalAveragePooling2D()(x))))
  graph = ChannelGraph(model)
  with pytest.raises(UserError, match=r'would lose the signal .* of group 0 \(inner\)') as error:
    slice_model(graph, {'inner': []}, min_channels=0)
  assert 'one of its elements [0, 1, 2, 3]' in str(error.value)
  check_slice(model, {'inner': [2]}, min_channels=0)
  with pytest.raises(UserError, match=r'keep more of them\.$'):
    slice_model(graph, {'inner': []})
  # A choice without floor puts it back.
  keep = choose_channels(graph, channel_scores(graph), ratio=1.0, min_channels=0)
  check_slice(model, keep, min_channels=0)
