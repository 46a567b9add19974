"""Zeros and frozen layers of the network that is given."""

import re

import numpy as np
import pytest
import tf_keras as keras
from alike import alike, few

from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.training.models.weight_files import read_weights

SHORT = {'nb_epochs_ft': 0.5, 'batch_size': 64}
FLAGS = {
  'weight-sparse': {'prune_ratio': 0.3},
  'chn-pruned': {'uniform_preserve_ratio': 0.8, 'nb_batches': 2},
  'filter-pruned': {'repair': 'least-squares', 'nb_batches': 2},
  'uniform-quant': {},
}


@pytest.fixture(scope='module')
def sparse(baseline, tmp_path_factory):
  """The baseline with two thirds of the weights of each kernel at zero."""
  rng, weights = np.random.default_rng(0), read_weights(baseline)
  for name, value in weights.items():
    if name.endswith('kernel'):
      weights[name] = value * (rng.random(value.shape) > 2 / 3)
  path = tmp_path_factory.mktemp('sparse') / 'sparse.npz'
  np.savez(path, **weights)
  return str(path)


def zeros(model):
  """Fractions of zeros of the kernels by name."""
  return {
    weight.name: float(np.mean(weight.numpy() == 0))
    for weight in model.trainable_weights
    if weight.shape.rank > 1
  }


@pytest.mark.parametrize('name', few(FLAGS, ('chn-pruned', 'weight-sparse')))
def test_zeros_stay(make, sparse, name):
  result = make(name, run={'warm_start_path': sparse}, training=SHORT, **FLAGS[name]).train()
  assert min(zeros(result.model).values()) > 0.6
  notes = [note for note in result.report['notes'] if '--nokeep_zeros' in note]
  assert len(notes) == 1
  assert re.match(
    r'6\d\.\d % of the weights in the kernels of the given network were zero', notes[0]
  )
  assert 'they stayed zero where their channels are left' in notes[0]


def test_zeros_go_if_asked(make, sparse):
  training = {**SHORT, 'keep_zeros': False}
  for name in ('weight-sparse', 'chn-pruned'):
    result = make(
      name, name, run={'warm_start_path': sparse}, training=training, **FLAGS[name]
    ).train()
    assert max(zeros(result.model).values()) < 0.5
    assert any('because of --nokeep_zeros' in note for note in result.report['notes'])


@pytest.fixture(scope='module')
def frozen(helper):
  """A network whose first two convolutions are frozen, on digits."""
  keras.utils.set_random_seed(0)
  x = inputs = keras.Input(helper.dataset.image_shape)
  for number in range(3):
    x = keras.layers.Conv2D(8, 3, 2, activation='relu', name=f'conv{number}')(x)
    x._keras_history.layer.trainable = number > 1
  x = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
  model = keras.Model(inputs, x)
  images, labels = next(iter(helper.eval_batches('train', 200)))
  pair = images.numpy(), labels.numpy()
  return model, ModelHelper.from_model(model, pair, pair)


@pytest.mark.parametrize('name', ['filter-pruned', *alike('chn-pruned', 'weight-sparse')])
def test_frozen_layers_stay_frozen(make, frozen, name):
  model, helper = frozen
  result = make(name, helper=helper, training=SHORT, **FLAGS[name]).train()
  for number in range(2):
    before, after = (m.get_layer(f'conv{number}') for m in (model, result.model))
    assert not after.trainable
    # What is left of it are the same numbers, and zeros where weights are pruned.
    assert np.isin(after.kernel.numpy(), [*before.kernel.numpy().ravel(), 0.0]).all()
    assert np.isin(after.bias.numpy(), before.bias.numpy()).all()
  changed = result.model.get_layer('conv2').kernel.numpy()
  assert not np.isin(changed, model.get_layer('conv2').kernel.numpy()).all()
