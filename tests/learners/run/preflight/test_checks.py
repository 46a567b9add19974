import collections
import shutil

import pytest
import tf_keras as keras

from secateurs.learners.run.baseline import baseline_weights
from secateurs.learners.run.preflight import checks
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.experiments import LENET_AT_DIGITS
from secateurs.utils.errors import UserError


def test_all_findings_are_listed_at_once(make, tmp_path):
  teacher = keras.Sequential(
    [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(7)]
  )
  teacher.save(tmp_path / 'teacher.keras')
  learner = make(
    'chn-pruned',
    training={'batch_size': 5000},
    distillation={'enbl_dst': True, 'save_path_dst': str(tmp_path / 'teacher.keras')},
  )
  with pytest.raises(UserError) as raised:
    learner.train()
  first, *rest = str(raised.value).splitlines()
  assert first == '2 things stand in the way of this run:'
  assert '--batch_size 5000' in rest[0]
  assert 'gives 7 classes, but the network gives 10' in rest[1]
  assert not list(tmp_path.rglob('model.ckpt*'))


def test_one_finding_is_one_sentence():
  checks.require_none([])
  with pytest.raises(UserError, match=r'^This\.$'):
    checks.require_none(['This.', 'This.'])


def test_a_full_disk_is_noticed_before_training(make, monkeypatch):
  usage = collections.namedtuple('usage', 'total used free')
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(1 << 30, 1 << 30, 1 << 20))
  with pytest.raises(UserError, match=r'has 1 MB left, but checkpoints and exported files'):
    make('full-prec').train()


def test_a_data_set_smaller_than_the_recipes_batch_makes_smaller_batches(make):
  helper = LENET_AT_DIGITS.make(DataConfig(nb_smpls_train=40))
  learner = make('full-prec', helper=helper)
  assert learner.rates.batch_size == 40
  assert 'Batches have 40 samples and not the 64 of the recipe' in learner.rates.batch_note
  rates = make('full-prec').rates
  assert (rates.batch_size, rates.batch_note) == (64, None)


@pytest.mark.parametrize('flag', ['layers', 'plan'])
@pytest.mark.parametrize('name', ['full-prec', 'uniform-quant', 'non-uniform-quant'])
def test_flags_of_cuts_are_refused_where_nothing_is_cut(make, tmp_path, name, flag):
  with pytest.raises(UserError, match=rf'^--{flag} f has no effect on {name}: leave it out, or'):
    make(name, run={flag: 'f'}).train()
  assert not list(tmp_path.iterdir())


def test_layers_are_no_flag_of_the_search(make):
  with pytest.raises(
    UserError, match=r'^--layers f has no effect on joint-search: .* --js_skip\.$'
  ):
    make('joint-search', run={'layers': 'f'}).train()


def test_a_baseline_depends_on_neither(make):
  learner = make('weight-sparse', run={'layers': 'f', 'plan': 'g'}, training={'nb_epochs_rat': 0.0})
  assert baseline_weights(learner.settings, learner.baseline_config)[0]


@pytest.mark.parametrize('name', ['.', 'logs', 'models', 'models_ws', 'models_ws_eval'])
def test_a_file_where_a_folder_should_be_is_noticed_before_training(make, tmp_path, name):
  place = tmp_path / 'run' / name
  place.parent.mkdir(exist_ok=True)
  place.write_text('mine')
  with pytest.raises(UserError, match=r'Cannot write to the folder .*run'):
    make('weight-sparse').train()
  assert place.read_text() == 'mine'
