"""Gates: their values against loops, the rules of their training, and where they stand."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import (
  branched_net,
  depthwise_net,
  digits_net,
  images,
  plain_net,
  randomize,
  residual_net,
)

from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.pressure import gates
from secateurs.learners.pressure.gated import gate_places
from secateurs.learners.pressure.gating import Gates, groups_of
from secateurs.learners.pressure.gp_config import GpConfig
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.counts.memory import map_bytes
from secateurs.utils.graph.flat.walk import flatten_model

L = keras.layers


def slow_gate(maps, kernel, bias, alpha):
  n, h, w, c = maps.shape
  mean = maps.sum(axis=0) / n
  features = [
    max(mean[2 * i + a, 2 * j + b, k] for a in (0, 1) for b in (0, 1))
    for i in range(h // 2)
    for j in range(w // 2)
    for k in range(c)
  ]
  return 1 / (1 + np.exp(-alpha * (np.array(features) @ kernel + bias)))


def test_a_gate_is_a_sigmoid_over_the_pooled_mean_map():
  maps = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
  gate = gates.ChannelGate('variance', 0.5, seed=1)
  out, v = gate(maps, training=True)
  assert gate.kernel.shape == (2 * 3 * 3, 3)
  expected = slow_gate(maps, gate.kernel.numpy(), gate.bias.numpy(), 0.5)
  np.testing.assert_allclose(v, expected, rtol=1e-4)
  np.testing.assert_allclose(out, maps * expected, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(gate.means, 0.9 * 0.5 + 0.1 * expected, rtol=1e-4)
  out, v = gate(maps)
  np.testing.assert_array_equal(out, maps)  # Outside of training the code counts, at first ones.
  assert v.numpy().tolist() == [1, 1, 1]


def test_maps_without_sides_are_not_pooled():
  maps = tf.constant([[1.0, 2.0], [3.0, 6.0]])
  np.testing.assert_array_equal(gates.pooled(maps), [2.0, 4.0])
  assert gates.nb_features((None, 2)) == 2
  assert gates.pooled(tf.ones([2, 1, 4, 3])).shape == gates.nb_features((None, 1, 4, 3))


def test_first_weights_by_code_and_by_paper():
  assert gates.first_std(200, 'std') == pytest.approx(1.0)
  assert gates.first_std(200, 'variance') == pytest.approx(1.0)
  assert gates.first_std(800, 'std') == pytest.approx(0.5)
  assert gates.first_std(800, 'variance') == pytest.approx(0.5**0.5)


def test_hardness_and_pull():
  assert [gates.alpha_at(1.0, 3.0, p) for p in (0.0, 0.5, 1.0, 2.0)] == [1.0, 2.0, 3.0, 3.0]
  half = np.array([0.9, 0.8, 0.2, 0.1])
  assert gates.pull(half, 0.5) == 0
  assert gates.pull(half, 0.25) == pytest.approx(25)
  soft, hard = np.full(4, 0.6), np.array([0.99, 0.98, 0.02, 0.01])
  assert gates.nudged(5.0, 1.0, soft, 0.5, 0.4) == 5.0  # Not in the first half.
  assert gates.nudged(5.0, 1.0, soft, 0.5, 0.6) == 6.0  # Few are near 0 or 1.
  assert gates.nudged(5.0, 1.0, hard, 0.5, 0.6) == 5.0
  assert gates.nudged(5.0, 1.0, hard * 0.1, 0.5, 0.6) == 4.0  # Too many are closed.


@pytest.mark.parametrize(
  ('build', 'places'),
  [
    (plain_net, {'c0': 1, 'c1': 1, 'c2': 1, 'fc': 1}),
    (depthwise_net, {'pw0': 1, 'pw1': 1, 'pw2': 1}),
    (branched_net, {'stem': 1, 'a': 1, 'b': 1, 'join': 1}),
  ],
)
def test_a_gate_stands_before_what_reads_the_channels(build, places):
  model = randomize(build())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  found = {unit.name: gate_places(graph, unit) for unit in units}
  assert {name: len(one) for name, one in found.items()} | places == {
    name: len(one) for name, one in found.items()
  }
  if build is plain_net:
    assert found['c2'] == ['max_pooling2d'] or found['c2'][0].startswith('max_pooling2d')
    assert found['fc'] == ['fc']


def test_gates_of_0_and_1_are_masks():
  model = randomize(digits_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  made = Gates(graph, units, GpConfig(), 0)
  network = made.network(model, units)
  kept = {unit.name: np.arange(unit.size) % 3 > 0 for unit in units}
  x = images(1, size=32)[0]
  plain = model(x).numpy()
  np.testing.assert_allclose(network(x, training=False)[0][0], plain, atol=1e-5)
  made.fix(units, kept)
  assert made.require_equal(lambda: model, units, kept, x) < 1e-5
  with pytest.raises(RuntimeError, match='gates of 0 and 1 differs from the masked one'):
    made.require_equal(lambda: randomize(model), units, {n: ~m for n, m in kept.items()}, x)


def shared_net():
  inputs = L.Input((8, 8, 3))
  shared = L.Conv2D(6, 3, name='shared')
  ways = [shared(L.ReLU(name=f'{n}_relu')(L.Conv2D(5, 1, name=n)(inputs))) for n in ('a', 'b')]
  x = L.ReLU()(L.Add()(ways))
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def test_a_shared_layer_is_gated_at_all_of_its_inputs():
  model = randomize(shared_net())
  graph = ChannelGraph(model)
  units = [unit for unit in filter_units(graph, 'couple').units if unit.size == 5]
  assert sorted(gate_places(graph, units[0])) == ['a_relu', 'b_relu']
  made = Gates(graph, units, GpConfig(), 0)
  kept = {unit.name: np.arange(unit.size) % 2 > 0 for unit in units}
  made.fix(units, kept)
  assert made.require_equal(lambda: model, units, kept, images(1)[0]) < 1e-5


def test_what_gates_multiply_is_stored_beside_the_gated_maps():
  """Of the network with gates, what the backward pass reads again is more by that."""
  model = randomize(residual_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  made = Gates(graph, units, GpConfig(), 0)
  plain, gated = (
    map_bytes(flatten_model(one)).training for one in (model, made.network(model, units))
  )
  calls = graph.traced.flat.calls_by_layer()
  places = [place for unit in units for place in gate_places(graph, unit)]
  sizes = [4 * np.prod(calls[place][0].layer.output_shape[1:]) for place in places]
  assert made.map_bytes(units) == sum(sizes) > 0
  assert made.map_bytes(units[:1]) == sizes[0]
  assert gated >= plain + sum(sizes)  # Casts of types that are equal already count there, too.


def test_groups_of_layers():
  graph = ChannelGraph(residual_net())
  units = filter_units(graph, 'keep').units
  names = [[unit.name for unit in group] for group in groups_of(units, 'b0_*,b*')]
  assert names == [['b0_conv1'], ['b1_conv1', 'b2_conv1']]
  assert len(groups_of(units, 'each')) == 3
  assert len(groups_of(units, 'jointly')) == 1
  with pytest.raises(UserError, match="pattern 'x', which matches none"):
    groups_of(units, 'b0_*,x')
  with pytest.raises(UserError, match='leaves b1_conv1 out'):
    groups_of(units, 'b0_*')
