"""Parts of models that need care: frozen layers, Python code, mixed precision, network-wide zeros."""

import dataclasses

import numpy as np
import pytest
import tf_keras as keras
from alike import alike, few
from kinds import KINDS, Kind, L, Subclassed, both, classes, images, u_net

from secateurs.learners import get_learner
from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.subclassed import as_functional


def run(
  kind, learner, folder, *, run=None, distillation=None, quantization=None, batch=16, **config
):
  given = kind() if callable(kind) else kind
  helper = ModelHelper.from_model(given.model, given.train, given.test, **given.options)
  cls = get_learner(learner)
  made = cls(
    helper,
    cls.Config(**config),
    run=RunConfig(run_dir=str(folder), bench_frames=1, bench_threads='1', **(run or {})),
    training=TrainConfig(nb_epochs_ft=0.2, batch_size=batch),
    distillation=DistillConfig(**(distillation or {})),
    quantization=QuantConfig(**(quantization or {})),
  )
  return helper, made.train()


def test_frozen_layers_stay_frozen_and_are_pruned(tmp_path):
  given = KINDS['frozen_backbone']()
  given.model.layers[1].layers[1].moving_mean.assign(np.arange(8.0))
  helper, result = run(given, 'weight-sparse', tmp_path, prune_ratio=0.5)
  block = result.report['compressed']
  assert block['sparsity'] > 0.45
  assert block['sparsity_params'] > 0.4
  kinds = {type(layer).__name__: layer.trainable for layer in result.model.layers if layer.weights}
  assert kinds == {'Conv2D': False, 'BatchNormalization': False, 'Dense': True}
  (norm, *_) = [one for one in result.model.layers if 'BatchNorm' in type(one).__name__]
  np.testing.assert_array_equal(norm.moving_mean, np.arange(8.0))
  assert sum(int(np.prod(w.shape)) for w in helper.build_model(0).trainable_weights) == 27


class Block(keras.Model):
  """A model of Python code inside another one."""

  def __init__(self, **options):
    super().__init__(**options)
    self.conv, self.norm = L.Conv2D(8, 3, padding='same'), L.BatchNormalization()

  def call(self, inputs, training=None):
    return inputs + self.norm(self.conv(inputs), training=training)


class Outer(keras.Model):
  """It, twice, in a list."""

  def __init__(self, **options):
    super().__init__(**options)
    self.stem, self.blocks = L.Conv2D(8, 1), [Block(), Block()]
    self.head = keras.Sequential([L.GlobalAveragePooling2D(), L.Dense(3, 'softmax')])

  def call(self, inputs, training=None):
    x = self.stem(inputs)
    for block in self.blocks:
      x = block(x, training=training)
    return self.head(x)


def test_subclassed_models_become_functional_ones():
  model = Outer()
  x = images(4)
  expected = model(x).numpy()
  functional = as_functional(model)
  names = [type(layer).__name__ for layer in functional.layers]
  assert names.count('Conv2D') == 3
  assert names.count('BatchNormalization') == 2
  np.testing.assert_allclose(functional(x), expected, atol=1e-6)
  assert type(model.blocks[0]) is Block
  helper = ModelHelper.from_model(model, *both(images, classes))
  assert helper.task.name == 'classification'


class Undecided(Subclassed):
  """Its code asks for values."""

  def call(self, inputs):
    x = super().call(inputs)
    return x if float(x[0, 0]) > 0 else -x


def test_what_cannot_be_followed_is_refused():
  with pytest.raises(UserError, match='was never called, so that its layers have no weights'):
    as_functional(Subclassed())
  model = Undecided()
  model(images(2))
  with pytest.raises(UserError, match='cannot be followed on symbolic tensors'):
    as_functional(model)


def test_runs_under_a_global_policy_of_half_precision(tmp_path):
  given = KINDS['half_precision']()
  try:
    keras.mixed_precision.set_global_policy('mixed_float16')
    _, result = run(given, 'filter-pruned', tmp_path)
  finally:
    keras.mixed_precision.set_global_policy('float32')
  assert {layer.compute_dtype for layer in result.model.layers} == {'float32'}
  assert result.report['achieved']['macs_ratio'] < 1
  note = 'The model computed in float16; it was compressed and exported in float32.'
  assert note in result.report['notes']


def test_a_model_of_double_precision_is_compressed_in_float32(tmp_path):
  inputs = L.Input(images(1).shape[1:], dtype='float64')
  x = L.Conv2D(8, 3, padding='same', dtype='float64')(inputs)
  x = L.GlobalAveragePooling2D(dtype='float64')(L.ReLU(dtype='float64')(x))
  model = keras.Model(inputs, L.Dense(3, 'softmax', dtype='float64')(x))
  given = Kind(model, *both(images, classes), 'classification')
  _, result = run(given, 'weight-sparse', tmp_path)
  assert {layer.compute_dtype for layer in result.model.layers} == {'float32'}
  assert result.model.inputs[0].dtype == 'float32'
  note = 'The model computed in float64; it was compressed and exported in float32.'
  assert note in result.report['notes']


def test_weights_that_are_not_finite_are_refused_before_work(tmp_path):
  given = KINDS['softmax']()
  kernel = given.model.layers[1].kernel
  kernel.assign(np.where(np.arange(216).reshape(kernel.shape) < 2, np.nan, kernel))
  with pytest.raises(UserError, match=r'^2 of 216 numbers of \S+/kernel are NaN or infinite'):
    run(given, 'weight-sparse', tmp_path)
  kernel.assign(np.zeros(kernel.shape))
  given.model.layers[2].moving_variance.assign(-np.ones(8))
  with pytest.raises(UserError, match=r'/moving_variance has variances below 0'):
    run(given, 'weight-sparse', tmp_path)
  assert not list(tmp_path.rglob('*.keras'))


def test_variances_of_zero_pass_through_refits_and_8_bits(tmp_path):
  """Channels that a network never used: normalisation divides by the root of epsilon alone."""
  given = KINDS['softmax']()
  for layer, variances in ((2, np.where(np.arange(8) < 3, 0.0, 1.0)), (5, np.zeros(8))):
    given.model.layers[layer].moving_variance.assign(variances)
  _, result = run(given, 'chn-pruned', tmp_path, run={'export_int8': True})
  assert all(np.isfinite(weight).all() for weight in result.model.get_weights())
  assert np.isfinite(result.report['compressed']['int8']['loss'])
  assert np.isfinite(result.report['compressed']['int8']['divergence'])


def test_one_sample_is_enough_unless_a_batch_is_asked_for(tmp_path):
  given = KINDS['softmax']()
  for part in (given.train, given.test):
    assert len(part) == 2
  one = dataclasses.replace(
    given, train=[x[:1] for x in given.train], test=[x[:1] for x in given.test]
  )
  with pytest.raises(UserError, match=r'^--batch_size 16 .* more than the 1 training samples'):
    run(one, 'chn-pruned', tmp_path)
  _, result = run(one, 'chn-pruned', tmp_path, batch=None)
  assert any('one class' in note for note in result.report['notes'])
  assert all(np.isfinite(weight).all() for weight in result.model.get_weights())


def learned_pixels():
  """A search begins with a network that does not guess."""

  def targets(nb, seed):
    return (images(nb, seed)[..., :1] > 0).astype(np.float32)

  found = Kind(u_net(1, 'sigmoid'), *both(images, targets), 'segmentation')
  found.model.compile(keras.optimizers.Adam(0.01), 'binary_crossentropy')
  found.model.fit(*found.train, batch_size=8, epochs=8, verbose=0)
  return found


SEARCHED = {name: KINDS[name] for name in ('labels_with_sigmoids', 'one_number', 'two_outputs')}
SEARCHED['learned_pixels'] = learned_pixels


@pytest.mark.slow
@pytest.mark.parametrize('kind', few(SEARCHED, ['labels_with_sigmoids']))
def test_searches_judge_by_the_score_of_the_task(kind, tmp_path):
  given = SEARCHED[kind]()
  given.options['nb_smpls_val'] = 20
  search = {'max_drop': 2.0, 'minimise': 'macs', 'nb_tries': 1, 'nb_epochs_try': 0.2}
  _, result = run(given, 'joint-search', tmp_path, **search)
  original, compressed = result.report['original'], result.report['compressed']
  assert compressed['macs'] < original['macs']
  assert compressed['score']['name'] == original['score']['name']
  (tried,) = result.report['extra']['search_path']['tries']
  assert np.isfinite(tried['drop'])


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['pixels_of_classes', *alike('one_number', 'two_outputs')])
def test_distillation_and_8_bits(kind, tmp_path):
  _, result = run(
    KINDS[kind],
    'filter-pruned',
    tmp_path,
    run={'export_int8': True, 'nb_smpls_calib': 16},
    distillation={'enbl_dst': True},
    quantization={'enbl_qat': True, 'nb_epochs_qat': 0.2},
  )
  int8 = result.report['compressed']['int8']
  assert int8['score']['name'] == result.report['original']['score']['name']
  assert int8['post_training_score'] is not None
  assert ('int8_top1_agreement' in result.report['parity']) == (kind != 'one_number')


@pytest.mark.slow
@pytest.mark.parametrize('learner', ['uniform-quant', *alike('non-uniform-quant')])
@pytest.mark.parametrize('kind', ['two_inputs', *alike('pixels_of_classes', 'table_of_numbers')])
def test_quantization_learners(kind, learner, tmp_path):
  _, result = run(KINDS[kind], learner, tmp_path, run={'nb_smpls_calib': 16})
  assert result.report['compressed']['score']['value'] is not None


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['tokens', *alike('bytes_of_pixels', 'two_inputs')])
def test_full_integer_files(kind, tmp_path):
  _, result = run(
    KINDS[kind], 'weight-sparse', tmp_path, run={'export_int8': True, 'nb_smpls_calib': 16}
  )
  original, int8 = result.report['original'], result.report['compressed']['int8']
  assert int8['score']['name'] == original['score']['name']
  # Convolutions over volumes stay in float32.
  assert int8['bytes'] < original['tflite_bytes'] or kind == 'volumes'
