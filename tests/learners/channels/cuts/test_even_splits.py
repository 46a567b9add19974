import sys
from pathlib import Path

import numpy as np
import pytest

from secateurs.learners.channels.cuts.cutting import keep_of
from secateurs.learners.channels.cuts.even_splits import equal_splits, evened
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.utils.deploy.files.export import export_model
from secateurs.utils.deploy.runtime.operators import operators_of
from secateurs.utils.graph import ChannelGraph, slice_model

sys.path.insert(0, str(Path(__file__).parents[3] / 'graph'))
from graph_networks import res2net, shuffle_of_four, shufflenet_v2


@pytest.fixture(scope='module', params=[shufflenet_v2, res2net, shuffle_of_four])
def split_network(request):
  model = request.param()
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
    assert 0 <= masks[unit.name].sum() - found[unit.name].sum() <= 3
  kept = {name: np.flatnonzero(mask).tolist() for name, mask in found.items()}
  small = slice_model(graph, keep_of(units, kept))
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
