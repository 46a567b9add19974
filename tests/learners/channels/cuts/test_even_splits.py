import functools
import sys
from pathlib import Path

import numpy as np
import pytest

from secateurs.learners.channels.cuts.cutting import keep_of
from secateurs.learners.channels.cuts.even_splits import equal_splits, evened
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.cuts.split_notes import after_note, before_note
from secateurs.utils.deploy.files.export import export_model
from secateurs.utils.deploy.runtime.operators import operators_of
from secateurs.utils.graph import ChannelGraph, apply_plan, masked, plan_slice

sys.path.insert(0, str(Path(__file__).parents[3] / 'graph'))
from graph_networks import res2net, shuffle_of_four, shufflenet_v2

NETWORKS = {
  'shufflenet_v2': shufflenet_v2,
  'res2net': res2net,
  'shuffle_of_four': shuffle_of_four,
  'two_shuffles_of_four': functools.partial(shuffle_of_four, width=32, nb_units=2),
}


@pytest.fixture(scope='module', params=list(NETWORKS))
def split_network(request):
  model = NETWORKS[request.param]()
  graph = ChannelGraph(model)
  units = filter_units(graph, 'couple').units
  rng = np.random.default_rng(0)
  keys = {unit.name: rng.random(unit.size) for unit in units}
  masks = {unit.name: keys[unit.name] > np.sort(keys[unit.name])[unit.size // 2] for unit in units}
  return graph, units, masks, keys


def widths(graph, units, masks):
  alive = np.ones(len(graph.traced.why), bool)
  for unit in units:
    alive[graph.groups[unit.key].roots] = masks[unit.name]
  return [{int(alive[part].sum()) for part in parts} for parts in equal_splits(graph)]


def test_parts_are_equal_and_little_else_changes(split_network, tmp_path):
  graph, units, masks, keys = split_network
  assert any(len(found) > 1 for found in widths(graph, units, masks))
  found = evened(graph, units, masks, keys)
  assert all(len(one) == 1 for one in widths(graph, units, found))
  for unit in units:
    assert abs(masks[unit.name].sum() - found[unit.name].sum()) <= 3
  kept = {name: np.flatnonzero(mask).tolist() for name, mask in found.items()}
  plan = plan_slice(graph, keep_of(units, kept))
  small, images = apply_plan(plan), np.random.default_rng(1).random((2, 8, 8, 3), np.float32)
  with masked(plan):
    expected = graph.model(images, training=False).numpy()
  np.testing.assert_allclose(small(images, training=False).numpy(), expected, atol=1e-5)
  export_model(small, tmp_path / 'm', formats=('tflite',))
  kinds, before = operators_of(tmp_path / 'm.tflite').kinds, equal_splits(graph)
  assert [len(one) for one in equal_splits(ChannelGraph(small))] == [len(one) for one in before]
  assert kinds['SPLIT'] == len(before)
  assert 'SPLIT_V' not in kinds
  again = evened(graph, units, found, keys)
  assert all(np.array_equal(again[name], found[name]) for name in found)


def test_splits_into_four_parts_are_found():
  parts = equal_splits(ChannelGraph(shuffle_of_four()))
  assert [[len(one) for one in found] for found in parts] == [[16] * 4]


def test_what_has_gone_and_what_must_stay(split_network):
  graph, units, masks, keys = split_network
  keys = {name: key.copy() for name, key in keys.items()}
  for unit in units:
    key, mask = keys[unit.name], masks[unit.name]
    key[np.flatnonzero(~mask)[0]], key[np.flatnonzero(mask)[0]] = -np.inf, np.inf
  found = evened(graph, units, masks, keys)
  for unit in units:
    assert not found[unit.name][keys[unit.name] == -np.inf].any()
    assert found[unit.name][keys[unit.name] == np.inf].all()


def test_nothing_changes_where_nothing_may(split_network):
  graph, units, masks, _ = split_network
  assert evened(graph, units, masks, {}) == masks


@pytest.mark.parametrize(
  ('width', 'stays', 'before', 'after'),
  [
    (16, 13, 'branch3 keeps all 16 channels', '16 of 16 channels of branch3'),
    (32, 22, 'branch3 loses none or at least 16 of 32 channels', '16 of 32 channels of branch3'),
  ],
)
def test_what_shuffles_tie_is_said(width, stays, before, after):
  graph = ChannelGraph(shuffle_of_four(width=width, nb_units=2))
  units = filter_units(graph, 'couple').units
  assert f'only where {before}, since' in before_note(graph, units)
  masks = {unit.name: np.ones(unit.size, bool) for unit in units}
  assert after_note(graph, units, masks) is None
  masks['branch3'][stays:] = False
  found = evened(graph, units, masks, {name: mask.astype(float) for name, mask in masks.items()})
  np.testing.assert_array_equal(found['branch3'], masks['branch3'])
  assert after_note(graph, units, found).endswith(f'the nearest equal parts have {after}.')


def test_nothing_is_said_where_small_steps_are_even():
  graph = ChannelGraph(res2net())
  assert before_note(graph, filter_units(graph, 'couple').units) is None
