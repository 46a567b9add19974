"""`secateurs.compress`: the command line's flags as arguments."""

import numpy as np
import pytest
import tf_keras as keras

import secateurs
from secateurs.utils.errors import UserError


@pytest.fixture(scope='module')
def trained():
  """A small classifier of colours, with its data."""
  keras.utils.set_random_seed(0)  # Some weights end in a network that knows one class.
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 240)
  images = rng.normal(0, 0.5, (240, 8, 8, 3)).astype(np.float32)
  images[np.arange(240), :, :, labels] += 1.0
  conv = [keras.layers.Conv2D(8, 3, activation='relu') for _ in range(2)]
  pool, head = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, 'softmax')
  model = keras.Sequential([keras.Input((8, 8, 3)), *conv, pool, head])
  model.compile('adam', 'sparse_categorical_crossentropy')
  model.fit(images[:200], labels[:200], epochs=10, verbose=0)
  return model, (images[:200], labels[:200]), (images[200:], labels[200:])


def test_flags_are_arguments(trained, tmp_path):
  flags = {'run_dir': str(tmp_path), 'bench_frames': 5, 'nb_epochs_ft': 0.1, 'seed': 3}
  result = secateurs.compress(
    *trained, learner='cp', cp_uniform_preserve_ratio=0.25, cp_nb_batches=1, **flags
  )
  report = result.report
  assert (report['method'], report['learner'], report['seed']) == ('cp', 'chn-pruned', 3)
  assert report['flags']['cp_select'] == 'lasso'
  assert report['flags']['cp_uniform_preserve_ratio'] == 0.25
  assert result.model.count_params() < trained[0].count_params()
  assert result.files['tflite'].is_file()


def test_images_alone_are_judged_by_agreement(trained, tmp_path):
  model, (images, _), (others, _) = trained
  flags = {'run_dir': str(tmp_path), 'bench_frames': 5, 'bench_threads': '1', 'nb_epochs_ft': 0.1}
  report = secateurs.compress(model, images, others, learner='l1', enbl_dst=True, **flags).report
  assert report['original']['score']['value'] == 1
  assert report['compressed']['score']['value'] <= 1
  assert report['extra']['divergence_from_original'] > 0
  notes = ' '.join(report['notes'])
  assert 'agreement with the original' in notes
  assert "learned from the original's outputs alone (distillation)" in notes


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    ({'learner': 'chn-prund'}, 'Did you mean chn-pruned?'),
    ({'learner': 'chn-pruned', 'cp_selct': 'l1'}, 'Did you mean cp_select?'),
    (
      {'learner': 'chn-pruned', 'ws_prune_ratio': 0.5},
      "'ws_prune_ratio' is no flag of this learner",
    ),
    ({'learner': 'chn-pruned', 'cp_ridge': 7.0}, '--cp_ridge takes a value in'),
  ],
)
def test_mistakes_are_one_sentence(trained, flags, text):
  with pytest.raises(UserError) as raised:
    secateurs.compress(*trained, **flags)
  assert text in str(raised.value)
