"""Losses, metrics, callbacks and outputs of the user's own, through whole runs."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from alike import few

from secateurs.learners import get_learner
from secateurs.learners.run.configs import DistillConfig, RunConfig, TrainConfig
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.deploy import format_table
from secateurs.utils.errors import UserError

layers = keras.layers
SHORT = {
  'full-prec': {},
  'weight-sparse': {},
  'chn-pruned': {'nb_batches': 2, 'compare': False},
  'filter-pruned': {'nb_batches': 2},
  'dis-chn-pruned': {
    'nb_iters_block': 4, 'nb_iters_layer': 2, 'nb_smpls_layer': 64, 'batch_size': 16,
    'nb_stages': 1,
  },
}  # fmt: skip


def smoothed(labels, logits):
  """Cross-entropy against labels of which a tenth is spread over all classes, per sample."""
  wanted = 0.9 * tf.one_hot(labels, 3) + 0.1 / 3
  return tf.nn.softmax_cross_entropy_with_logits(wanted, logits)


def confidence(labels, logits):
  """Probability of the label, per sample."""
  return tf.gather(tf.nn.softmax(logits), labels, batch_dims=1)


class Diary(keras.callbacks.Callback):
  def __init__(self):
    super().__init__()
    self.phases = []

  def on_train_begin(self, logs=None):
    self.phases.append((self.params['phase'], []))

  def on_epoch_end(self, epoch, logs=None):
    self.phases[-1][1].append(logs)


def net(size=12, seed=0):
  keras.utils.set_random_seed(seed)
  return keras.Sequential(
    [
      keras.Input((size, size, 3)),
      layers.Conv2D(8, 3, padding='same', activation='relu'),
      layers.Conv2D(12, 3, strides=2, activation='relu'),
      layers.GlobalAveragePooling2D(),
      layers.Dense(3, activation='softmax'),
    ],
    name='mine',
  )


def arrays(nb=96, size=12, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, nb).astype(np.int32)
  images = rng.normal(0, 0.5, (nb, size, size, 3)).astype(np.float32)
  images[np.arange(nb), :, :, labels] += 1.0
  return images, labels


def learner_of(name, tmp_path, *, config=None, distillation=None, int8=False, **options):
  helper = ModelHelper.from_model(net(), arrays(), arrays(50, seed=1), **options)
  cls = get_learner(name)
  return cls(
    helper,
    cls.Config(**(config or SHORT[name])),
    run=RunConfig(
      run_dir=str(tmp_path), bench_frames=3, bench_threads='1', summ_step=3, export_int8=int8
    ),
    training=TrainConfig(nb_epochs_ft=2, nb_epochs_rat=0.04, batch_size=16),
    distillation=DistillConfig(**(distillation or {})),
  )


def records(learner):
  return [
    json.loads(line) for line in (learner.files.log_dir / 'metrics.jsonl').read_text().splitlines()
  ]


@pytest.mark.parametrize('name', few(sorted(SHORT), ('dis-chn-pruned', 'filter-pruned')))
def test_every_learner_takes_the_users_functions(name, tmp_path):
  diary = Diary()
  learner = learner_of(
    name, tmp_path, loss=smoothed, metrics={'confidence': confidence}, callbacks=[diary]
  )
  result = learner.train()
  compressed = result.report['compressed']
  images, labels = arrays(50, seed=1)
  logits = np.log(result.model(images).numpy())
  assert compressed['loss'] == pytest.approx(np.mean(smoothed(labels, logits)), rel=1e-4)
  found = compressed['metrics']['confidence']
  assert found == pytest.approx(np.mean(confidence(labels, logits)), rel=1e-4)
  for record in records(learner):
    assert 0 < record['confidence'] < 1
  trained = {'full-prec': 'train', 'weight-sparse': 'sparsify'}.get(name, 'finetune')
  phases = dict(diary.phases)
  assert len(phases[trained]) >= 2
  assert all(set(logs) >= {'loss', 'accuracy', 'confidence'} for logs in phases[trained])
  if name == 'dis-chn-pruned':
    assert 'block2_finetune' in phases  # The first block has but the convolution of the colours.
  text = format_table(result.report)
  (row,) = [line for line in text.splitlines() if line.startswith('confidence')]
  assert f'{found:.4g}' in row
  change = compressed['metrics']['confidence'] - result.report['original']['metrics']['confidence']
  written = json.loads((learner.files.log_dir / 'report.json').read_text())
  assert written['changes'].get('metrics/confidence', 0) == pytest.approx(change)
  assert 'confidence' in (learner.files.log_dir / 'report.html').read_text()
  for evaluated in learner.evaluate().values():
    assert evaluated.metrics['confidence'] == pytest.approx(found, abs=1e-3)


def test_int8_files_and_teachers_go_with_them(tmp_path, capsys):
  learner = learner_of(
    'weight-sparse', tmp_path, loss=smoothed, metrics={'confidence': confidence},
    distillation={'enbl_dst': True}, int8=True,
  )  # fmt: skip
  report = learner.train().report
  assert 0 < report['compressed']['int8']['metrics']['confidence'] < 1
  assert 'int8 confidence' in format_table(report)
  assert all({'loss_dst', 'confidence'} <= set(record) for record in records(learner))
  assert ' confidence 0.' in capsys.readouterr().out


def test_another_loss_gives_another_network_and_is_another_run(tmp_path):
  """A loss whose gradient is nothing leaves the weights to the teacher of none: they stay."""

  def nothing(labels, logits):
    del labels
    return 0.0 * tf.reduce_sum(logits, -1)

  config = {'prune_ratio': 0.0}
  learner = learner_of('weight-sparse', tmp_path, config=config, loss=nothing)
  learner.helper.recipe = type(learner.helper.recipe)(
    **{**vars(learner.helper.recipe), 'weight_decay': 0.0}
  )
  result = learner.train()
  for before, after in zip(net().get_weights(), result.model.get_weights(), strict=True):
    np.testing.assert_array_equal(before, after)
  with pytest.raises(UserError, match=r'loss nothing, now not given'):
    learner_of('weight-sparse', tmp_path, config=config).train()


def test_functions_that_do_not_fit_are_rejected_at_once():
  with pytest.raises(UserError, match=r'Metric two gives \(2, 3\)'):
    ModelHelper.from_model(net(), arrays(), arrays(), metrics={'two': lambda y, z: z})
  with pytest.raises(UserError, match=r'A callback is a'):
    ModelHelper.from_model(net(), arrays(), arrays(), callbacks=[print])


# Several outputs.


def two_headed(as_dict=False):
  inputs = keras.Input((12, 12, 3))
  x = layers.Conv2D(8, 3, padding='same', activation='relu')(inputs)
  x = layers.Conv2D(12, 3, strides=2, activation='relu')(x)
  x = layers.GlobalAveragePooling2D()(x)
  colour = layers.Dense(3, activation='softmax', name='colour')(x)
  size = layers.Dense(1, name='size')(layers.Dense(7, name='only_for_size')(x))
  return keras.Model(inputs, {'c': colour, 's': size} if as_dict else [colour, size], name='two')


@pytest.mark.parametrize(('as_dict', 'output'), [(False, 'colour'), (True, 'c')])
def test_a_model_with_several_outputs_is_cut_to_the_named_one(as_dict, output, tmp_path):
  model = two_headed(as_dict)
  images, labels = arrays()
  both = {output: labels, 's': np.zeros(96)}
  pipeline = tf.data.Dataset.from_tensor_slices((images, both)).batch(32)
  helper = ModelHelper.from_model(model, (images, both), pipeline, output=output)
  built = helper.build_model(0)
  assert 'only_for_size' not in [layer.name for layer in built.layers]
  seen = np.concatenate([batch[1].numpy() for batch in helper.eval_batches('eval', 40)])
  np.testing.assert_array_equal(seen, labels)
  cls = get_learner('chn-pruned')
  result = cls(
    helper,
    cls.Config(**SHORT['chn-pruned']),
    run=RunConfig(run_dir=str(tmp_path), bench_frames=3, bench_threads='1'),
    training=TrainConfig(nb_epochs_ft=0),
  ).train()
  assert result.report['achieved']['macs_ratio'] < 0.8
  assert result.model(images[:4]).shape == (4, 3)
  assert result.report['parity']['tflite_vs_keras'] < 1e-3


def test_outputs_that_are_not_named():
  with pytest.raises(UserError, match=r'outputs colour, size, but the targets .* output=NAME'):
    ModelHelper.from_model(two_headed(), arrays(), arrays())
  with pytest.raises(UserError, match=r'outputs c, s, but the targets'):
    ModelHelper.from_model(two_headed(as_dict=True), arrays(), arrays())
  with pytest.raises(UserError, match=r'no output form: its outputs are colour, size'):
    ModelHelper.from_model(two_headed(), arrays(), arrays(), output='form')
  images, labels = arrays()
  with pytest.raises(UserError, match=r'labels are for the outputs b, but those of output colour'):
    ModelHelper.from_model(two_headed(), (images, {'b': labels}), arrays(), output='colour')
