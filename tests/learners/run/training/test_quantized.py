"""Quantisation-aware fine-tuning after any learner."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from alike import few

from secateurs.learners import learners
from secateurs.learners.run.results.int8_layers import divergence
from secateurs.utils.deploy import TFLiteModel, export_model
from secateurs.utils.errors import UserError
from secateurs.utils.graph import save_model, slice_model
from secateurs.utils.training.engine import loop
from secateurs.utils.training.int8.simulation import simulations
from secateurs.utils.training.models.quantization import calibrate, quantized_twin, zero_masks

L = keras.layers
QAT = {'enbl_qat': True, 'nb_epochs_qat': 1.0}


def integer_kernels(path):
  """The int8 constants of a .tflite file that have the size of kernels."""
  interpreter = tf.lite.Interpreter(str(path))
  interpreter.allocate_tensors()
  kernels = []
  for detail in interpreter.get_tensor_details():
    if detail['dtype'] is np.int8 and np.prod(detail['shape']) > 1000:
      try:
        kernels.append(interpreter.get_tensor(detail['index']))
      except ValueError:  # An activation, which holds nothing yet.
        continue
  return kernels


FEW = ('chn-pruned', 'weight-sparse')


@pytest.mark.parametrize('name', few(sorted(set(learners()) - {'uniform-quant'}), FEW))
def test_the_integer_file_comes_from_training(name, make, baseline, capsys):
  learner = make(name, run={'warm_start_path': baseline}, quantization=QAT)
  result = learner.train()
  report = json.loads((learner.files.log_dir / 'report.json').read_text())
  assert [p['name'] for p in report['phases']][-3:] == ['qat', 'measure', 'other']
  int8 = report['compressed']['int8']
  assert int8['accuracy'] > 0.3
  assert f'accuracy {100 * int8["post_training_score"]:.2f} %' in capsys.readouterr().out
  assert report['parity']['int8_top1_agreement'] > 0.9
  images = next(iter(learner.helper.eval_batches('eval', 200)))[0].numpy()
  both = [TFLiteModel(result.files[kind]).predict(images) for kind in ('tflite', 'tflite_int8')]
  apart = divergence(learner.helper)(*both)
  assert int8['divergence'] == pytest.approx(np.mean(apart))
  # The float files are those of the model before.
  assert report['parity']['tflite_vs_keras'] < 1e-3
  twin = learner.quantized
  assert any('_range/high' in weight.name for weight in simulations(twin)[0].weights)
  detail = tf.lite.Interpreter(str(result.files['tflite_int8'])).get_input_details()[0]
  assert detail['dtype'] is np.int8
  found = make(name, run={'warm_start_path': baseline}, quantization=QAT).evaluate()
  assert found['tflite_int8'].score.value == int8['accuracy']
  before = result.files['tflite_int8'].read_bytes()
  again = make(name, run={'warm_start_path': baseline}, quantization=QAT)
  assert again.export()['tflite_int8'].read_bytes() == before


def test_zeros_stay(make, baseline):
  learner = make(
    'weight-sparse', run={'warm_start_path': baseline}, quantization=QAT, prune_ratio=0.75
  )
  result = learner.train()
  stored = {kernel.size: kernel for kernel in integer_kernels(result.files['tflite_int8'])}
  for kernel in (weights for weights in result.model.get_weights() if weights.size > 10_000):
    zeros = np.sum(kernel == 0)
    assert np.sum(stored[kernel.size] == 0) >= zeros > 0.7 * kernel.size


def test_ranges_start_at_those_of_the_network():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(6, 3, use_bias=False, name='conv')(x)
  x = L.ReLU(name='relu')(L.BatchNormalization(name='bn')(x))
  y = L.Conv2D(6, 3, padding='same', activation='relu', name='fused')(x)
  x = L.Add(name='add')([x, y])
  model = keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))
  rng = np.random.default_rng(0)
  model.set_weights([np.abs(rng.normal(size=w.shape)) + 0.5 for w in model.get_weights()])
  images = rng.normal(size=(120, 8, 8, 3)).astype(np.float32)
  twin = quantized_twin(model)
  before = np.abs(twin(images, training=False) - model(images)).mean()

  calibrate(twin, images)

  ranges = {w.name[len('int8/') : -2]: float(w) for w in twin.weights if w.shape.rank == 0}
  for name in ('relu', 'fused', 'add', 'logits'):
    output = keras.Model(inputs, model.get_layer(name).output)(images).numpy()
    assert ranges[f'{name}_range/high'] == pytest.approx(output.max(), rel=1e-5)
    assert ranges[f'{name}_range/low'] == pytest.approx(min(output.min(), 0), rel=1e-5)
  assert ranges['input_range/low'] == pytest.approx(images.min())
  outputs = model(images).numpy()
  assert np.abs(twin(images, training=False) - outputs).mean() < 0.02 * np.ptp(outputs) < before


class Killed(BaseException):
  """Stands for a kill: nothing in the program catches it."""


def test_a_killed_phase_goes_on_to_the_same_end(make, baseline, monkeypatch):
  options = {'run': {'warm_start_path': baseline, 'save_step': 3}, 'quantization': QAT}
  whole = make('chn-pruned', 'whole', **options)
  whole.train()
  run, seen = loop.TrainStep.run, []

  def run_and_die(self, batches, nb_steps):
    if killed.quantized is not None:
      seen.append(nb_steps)
      if len(seen) > 2:
        raise Killed
    return run(self, batches, nb_steps)

  killed = make('chn-pruned', 'killed', **options)
  with monkeypatch.context() as patch:
    patch.setattr(loop.TrainStep, 'run', run_and_die)
    with pytest.raises(Killed):
      killed.train()
  resumed = make('chn-pruned', 'killed', **options)
  resumed.train()
  assert resumed.session.state.times['qat'].iters == whole.session.state.times['qat'].iters
  for one, other in zip(whole.quantized.weights, resumed.quantized.weights, strict=True):
    np.testing.assert_array_equal(one.numpy(), other.numpy())


def small_net(middle):
  inputs = L.Input((8, 8, 3))
  x = L.Conv2D(4, 3, padding='same', use_bias=False)(inputs)
  x = L.ReLU()(L.BatchNormalization()(x))
  return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(middle(x))))


def test_a_twin_has_its_own_weights():
  model = small_net(L.Activation('linear'))
  before = model.get_weights()
  twin = quantized_twin(model)
  twin.trainable_weights[0].assign(tf.zeros_like(twin.trainable_weights[0]))
  for one, other in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)


def test_choices_of_channels_are_left_as_they_are(tmp_path):
  model = keras.Sequential(
    [
      L.Conv2D(8, 3, input_shape=(8, 8, 3)),
      L.ReLU(),
      L.GlobalAveragePooling2D(),
      L.Dense(3, name='dense'),
    ]
  )
  slim = slice_model(model, {('dense', 'input'): [0, 2, 3, 7]})
  images = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)
  save_model(slim, tmp_path / 'slim.keras')
  for network in (slim, keras.models.load_model(tmp_path / 'slim.keras')):
    twin = quantized_twin(network)
    calibrate(twin, images)
    for _ in range(20):
      twin(images, training=True)
    exported = export_model(network, tmp_path / 'model', quantized=twin, parity_images=images)
    assert exported.tflite_int8.parity.top1_agreement > 0.9
    assert exported.tflite_int8.parity.max_diff_steps < 4


def test_masks_are_those_of_the_zeros():
  model = small_net(L.Activation('linear'))
  assert zero_masks(quantized_twin(model)) is None
  kernel = model.layers[1].kernel
  pattern = np.random.default_rng(0).uniform(size=kernel.shape) < 0.5
  kernel.assign(kernel * pattern)
  masks = zero_masks(quantized_twin(model))
  assert len(masks.masks) == 1
  np.testing.assert_array_equal(masks.masks[0].numpy(), pattern)
  assert not hasattr(masks, 'backups')  # Nothing would read them.


def test_masks_between_layers_are_refused():
  inputs = L.Input((6,))
  model = keras.Model(inputs, L.Dense(2)(L.LSTM(4)(L.Embedding(9, 4, mask_zero=True)(inputs))))
  with pytest.raises(UserError, match=r'its layer embedding\w* \(Embedding\) makes a mask'):
    quantized_twin(model)


def test_weights_that_are_rounded_already_are_not_rounded_again(make, baseline):
  learner = make('uniform-quant', run={'warm_start_path': baseline}, quantization=QAT)
  with pytest.raises(UserError, match='--enbl_qat trains another 8-bit twin of what uniform-quant'):
    learner.train()


def gate(x):
  factor = tf.sigmoid(L.Conv2D(4, 1)(tf.reduce_mean(x, [1, 2], keepdims=True)))
  return L.Conv2D(4, 3)(x * factor)


def raised(x):
  return L.ReLU()(L.BatchNormalization()(L.Conv2DTranspose(4, 3, 2, use_bias=False)(x)))


def others(x):
  """A normalisation after no convolution, activations that are not simulated, a difference."""
  y = L.Conv2D(4, 3, padding='same', activation='elu')(L.BatchNormalization()(L.MaxPooling2D(2)(x)))
  return L.Subtract()([L.ELU()(y), L.Conv2D(4, 1, activation='softplus')(y)])


MIDDLES = {
  'gate': gate,
  'raised': raised,
  'others': others,
  'prelu': lambda x: L.PReLU(shared_axes=[1, 2])(x),
}


@pytest.mark.parametrize('kind', MIDDLES)
def test_whole_networks_have_a_form_in_8_bits(kind, tmp_path):
  """Operations on tensors, transposed convolutions, and preprocessing: nothing stays float."""
  rng = np.random.default_rng(0)
  images = rng.uniform(0, 255, (64, 8, 8, 3)).astype(np.float32)
  norm = L.Normalization(mean=[100.0, 120, 140], variance=[1000.0, 2000, 3000])
  x = inputs = L.Input((8, 8, 3))
  x = norm(L.Rescaling(0.5, 3.0)(x))
  x = MIDDLES[kind](L.Conv2D(4, 3, activation='relu')(x))
  model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
  for weight in model.weights:
    if 'moving' in weight.name or 'alpha' in weight.name:
      weight.assign(rng.uniform(0.2, 1.5, weight.shape))
  expected = model(images).numpy()
  twin = quantized_twin(model)
  calibrate(twin, images)
  found = export_model(model, tmp_path / 'model', quantized=twin, parity_images=images)
  assert found.left_out == {}
  assert all('SOFTPLUS' in note or 'LOG' in note for note in found.notes)
  assert found.tflite_int8.parity.max_diff_steps < 8
  outputs = TFLiteModel(found.tflite_int8.path).predict(images)
  assert np.abs(outputs - expected).max() < 0.1 * np.ptp(expected)
