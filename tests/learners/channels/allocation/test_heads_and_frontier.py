import numpy as np
import pytest
import tf_keras as keras
from networks import randomize
from strided_networks import NETS, samples

from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.layerwise.frontier import Frontier, bytes_per_image
from secateurs.utils.training.layerwise.maps import as_half
from secateurs.utils.training.tasks.heads import make_head, start_head

L = keras.layers


def test_a_branch_starts_from_a_good_classifier():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 200)
  maps = rng.normal(5, 3, (200, 4, 4, 6)).astype(np.float32)
  maps[np.arange(200), :, :, labels] += 4
  branch = make_head((None, 4, 4, 6), (5,), 'branch', seed=0)
  before = (np.argmax(branch(maps), -1) == labels).mean()
  start_head(branch, maps, labels)
  found = np.argmax(branch(maps, training=False), -1)
  assert (found == labels).mean() > 0.95 > before
  normed = branch.get_layer('norm')(maps, training=False).numpy()
  np.testing.assert_allclose(normed.mean((0, 1, 2)), 0, atol=1e-2)
  two = make_head((None, 4, 4, 6), (5,), 'two', seed=0)
  start_head(two, maps[labels < 2], labels[labels < 2])
  found = np.argmax(two(maps[labels < 2], training=False), -1)
  assert (found == labels[labels < 2]).mean() > 0.95
  one = make_head((None, 4, 4, 6), (5,), 'one', seed=0)
  kernel = one.get_layer('logits').kernel.numpy()
  start_head(one, maps[labels == 0], labels[labels == 0])
  np.testing.assert_array_equal(one.get_layer('logits').kernel, kernel)


def test_a_branch_makes_nothing_of_dead_maps():
  rng = np.random.default_rng(0)
  maps, more = (rng.normal(0, 1e-7, (200, 4, 4, 6)).astype(np.float32) for _ in range(2))
  branch = make_head((None, 4, 4, 6), (5,), 'branch', seed=0)
  start_head(branch, maps, rng.integers(0, 3, 200))
  # What enters training may vary far more than what the branch was fit to.
  logits = branch(more * 100, training=False).numpy()
  assert np.ptp(logits[:, :3]) < 10


@pytest.mark.parametrize('name', NETS)
def test_a_frontier_holds_what_the_network_gives(name):
  model = randomize(NETS[name]())
  flat = flatten_model(model)
  images, _ = samples()
  frontier = Frontier(flat, images)
  probe = keras.Model(model.input, [call.layer.output for call in flat.calls])
  expected = dict(zip((c.outputs[0] for c in flat.calls), probe(images, training=False)))
  for position in range(0, len(flat.calls), 4):
    frontier.advance(position)
    for number, maps in frontier.tensors.items():
      if number in expected:
        np.testing.assert_allclose(maps.whole(), expected[number], atol=2e-2, rtol=2e-2)
    assert sum(maps.rows(0, 1).nbytes for maps in frontier.tensors.values()) == bytes_per_image(
      flat, position
    )
    last = flat.outputs[0]
    found = frontier.peek([last])[last].whole()
    np.testing.assert_allclose(found, expected[last], atol=5e-2, rtol=5e-2)


def test_a_compiled_lookout_sees_weights_that_change_behind_the_cut():
  flat = flatten_model(cifar_resnet(20))
  frontier = Frontier(flat, np.random.default_rng(0).normal(size=(5, 32, 32, 3)))
  frontier.advance(len(flat.calls) // 2)
  (last,) = flat.outputs
  look, kernel = frontier.lookout([last]), flat.calls[-1].layer.kernel
  seen = []
  for factor in (1.0, 0.5):
    kernel.assign(kernel * factor)
    seen.append(look()[last].whole())
    np.testing.assert_allclose(seen[-1], frontier.peek([last])[last].whole(), atol=1e-3)
  assert np.abs(seen[0] - seen[1]).max() > 0.01


def test_values_that_float16_cannot_hold_are_kept_in_float32():
  assert as_half(np.array([1.0, 6e4])).dtype == np.float16
  assert as_half(np.array([1.0, 1e5])).dtype == np.float32
  np.testing.assert_array_equal(as_half(np.array([1.0, 1e5])), [1.0, 1e5])


def test_a_process_without_images_has_empty_maps():
  flat = flatten_model(cifar_resnet(20))
  frontier = Frontier(flat, np.zeros((0, 32, 32, 3), np.float32))
  frontier.advance(5)
  (output,) = flat.outputs
  assert frontier.peek([output])[output].whole().shape == (0, 10)
