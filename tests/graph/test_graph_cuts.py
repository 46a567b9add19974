import weakref

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.nets.lenet import lenet
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.graph.flat.cuts import calls_between, crossing, even_necks, necks, run_calls
from secateurs.utils.graph.flat.walk import flatten_model

L = keras.layers


def branched():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(4, 3, activation='relu', name='stem')(x)
  a, b = L.Conv2D(4, 1, name='a')(x), L.Conv2D(4, 3, padding='same', name='b')(x)
  x = L.BatchNormalization(name='norm')(L.Concatenate(name='join')([a, x, b]))
  x = L.Dropout(0.5, name='drop')(L.Conv2D(4, 3, name='last')(x))
  return keras.Model(inputs, L.Dense(3, name='logits')(L.GlobalAveragePooling2D(name='pool')(x)))


def names(flat, found):
  return [flat.calls[neck.position - 1].name for neck in found]


def test_cuts_of_resnet20_lie_at_the_ends_of_residual_blocks():
  flat = flatten_model(cifar_resnet(20))
  found = even_necks(flat, 3)
  assert names(flat, found) == [f'stage{s}_relu2' for s in ('1_block2', '2_block1', '3_block1')]
  assert [neck.nb_convs for neck in found] == [5, 10, 17]
  assert [flat.shapes[neck.tensor][1:] for neck in found] == [
    (32, 32, 16),
    (16, 16, 32),
    (8, 8, 64),
  ]
  assert {name.rsplit('_', 1)[1] for name in names(flat, necks(flat))} <= {
    'conv',
    'bn',
    'relu',
    'add',
    'relu2',
  }


def test_cuts_of_a_plain_network_lie_in_front_of_the_next_convolution():
  flat = flatten_model(lenet())
  assert names(flat, even_necks(flat, 3)) == ['pool1']
  assert even_necks(flat, 0) == []


def test_no_cut_runs_through_a_branch():
  flat = flatten_model(branched())
  assert names(flat, necks(flat)) == ['stem', 'join', 'norm', 'last', 'drop']
  assert names(flat, even_necks(flat, 1)) == ['stem']
  assert names(flat, even_necks(flat, 9)) == ['stem', 'norm']


@pytest.mark.parametrize('build', [branched, lenet, lambda: cifar_resnet(20)])
def test_running_in_two_parts_is_running_the_model(build):
  model = build()
  flat = flatten_model(model)
  images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
  expected = model(images, training=False).numpy()
  ((start, _),) = flat.inputs
  for position in range(0, len(flat.calls) + 1, 3):
    values = run_calls(flat.calls[:position], {start: tf.constant(images)})
    given = {number: values[number] for number in crossing(flat, position)}
    rest = calls_between(flat, position, flat.outputs)
    found = run_calls(rest, given)[flat.outputs[0]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('build', [branched, lambda: cifar_resnet(20)])
def test_tensors_are_let_go_behind_their_last_reader(build):
  model = build()
  flat = flatten_model(model)
  ((start, _),) = flat.inputs
  images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
  middle = flat.calls[len(flat.calls) // 2].outputs[0]
  made, most = [], 0

  class Watched:
    """A call that counts which of the tensors made so far are still there."""

    def __init__(self, call):
      self.call = call
      self.inputs, self.outputs = call.inputs, call.outputs
      self.args, self.kwargs, self.layer = call.args, call.kwargs, self
      self._call_spec = call.layer._call_spec

    def __call__(self, *args, **kwargs):
      nonlocal most
      result = self.call.layer(*args, **kwargs)
      made.append(weakref.ref(result))
      most = max(most, sum(ref() is not None for ref in made))
      return result

  watched = [Watched(call) for call in flat.calls]
  wanted = [middle, *flat.outputs]
  found = run_calls(watched, {start: tf.constant(images)}, wanted=wanted)
  assert found.keys() == set(wanted)
  np.testing.assert_allclose(found[flat.outputs[0]], model(images, training=False), atol=1e-5)
  assert most <= 5  # The middle, two branches, what joins them, what was just made.


def test_only_what_is_needed_is_run():
  flat = flatten_model(branched())
  calls = flat.calls_by_layer()
  after_a = calls['a'][0].outputs
  assert [call.name for call in calls_between(flat, 0, after_a)] == ['stem', 'a']
  assert calls_between(flat, len(flat.calls), flat.outputs) == []


def test_training_mode_reaches_layers_that_were_not_built_in_another():
  x = inputs = L.Input((4,))
  fixed = L.BatchNormalization(name='fixed')(x, training=False)
  x = L.Add()([L.BatchNormalization(name='free')(x), fixed])
  model = keras.Model(inputs, x)
  flat = flatten_model(model)
  images = tf.constant(np.random.default_rng(0).normal(3, 1, (16, 4)).astype(np.float32))
  ((start, _),) = flat.inputs
  run_calls(flat.calls, {start: images}, training=True)
  assert np.abs(model.get_layer('free').moving_mean.numpy()).max() > 0
  assert np.abs(model.get_layer('fixed').moving_mean.numpy()).max() == 0
