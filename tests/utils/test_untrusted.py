"""No code of a model file runs: refused from its config, before it is loaded."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.model_files import load_model
from secateurs.utils.untrusted import refuse_config

L = keras.layers
ROOT = Path(__file__).parents[2]
# What could run what a file holds.
RISKS = re.compile(
  r'^\s*(?:import|from) (pickle|dill|cloudpickle|joblib|marshal|shelve|runpy)\b|'
  r'\b(?<!\.)(eval|exec)\(|(allow_pickle=True|safe_mode=False)|yaml\.(?!safe_)(\w*load)',
  re.MULTILINE,
)


def touching(path):
  """A model whose Lambda leaves a trace when its code runs."""

  def run(x, path=str(path)):
    open(path, 'a').close()
    return x

  return keras.Sequential([L.Input((4,)), L.Lambda(run), L.Dense(2)])


def wrapped(path):
  x = keras.Input((3, 4))
  return keras.Model(x, L.TimeDistributed(touching(path).layers[0])(x))


@pytest.mark.parametrize('model', [touching, wrapped])
@pytest.mark.parametrize('kind', ['m.h5', 'm.keras', 'm'])
def test_a_lambda_is_refused_before_it_runs(model, kind, tmp_path):
  trace = tmp_path / 'trace'
  model(trace).save(tmp_path / kind)
  trace.unlink()
  with pytest.raises(UserError, match=rf'{kind} has a Lambda layer, .* put a Rescaling layer'):
    load_model(tmp_path / kind)
  assert not trace.exists()


def test_a_file_of_two_formats_hides_nothing(tmp_path):
  """An HDF5 file with a zip archive after it is loaded as the former."""
  trace = tmp_path / 'trace'
  touching(trace).save(tmp_path / 'm.h5')
  trace.unlink()
  with zipfile.ZipFile(tmp_path / 'm.h5', 'a') as archive:
    archive.writestr('config.json', '{}')
  with pytest.raises(UserError, match='has a Lambda layer'):
    load_model(tmp_path / 'm.h5')
  assert not trace.exists()


def changed(tmp_path, change):
  """A .keras file whose config is changed by hand, as an attacker would."""
  x = keras.Input((4,))
  y = L.Dense(2, activation='relu', name='dense')(tf.math.exp(x))
  keras.Model(x, y).save(tmp_path / 'good.keras')
  target = tmp_path / 'bad.keras'
  with zipfile.ZipFile(tmp_path / 'good.keras') as old, zipfile.ZipFile(target, 'w') as new:
    for name in old.namelist():
      data = old.read(name)
      if name == 'config.json':
        config = json.loads(data)
        change({one['name']: one for one in config['config']['layers']})
        data = json.dumps(config)
      new.writestr(name, data)
  return target


def function(module, name):
  return {'module': module, 'class_name': 'function', 'config': name, 'registered_name': name}


@pytest.mark.parametrize(
  ('where', 'key', 'value', 'words'),
  [
    ('dense', 'activation', function('os', 'abort'), "function 'abort' of module 'os'"),
    ('dense', 'activation', function('builtins', 'exec'), "function 'exec' of module 'builtins'"),
    ('dense', 'activation', function('keras.utils', 'get_file'), 'get_file'),
    (
      'dense',
      'bias_initializer',
      {'module': 'shutil', 'class_name': 'Error', 'config': {}},
      'shutil',
    ),
    ('math.exp', 'function', 'load_library', "operation 'load_library'"),
    ('math.exp', 'function', 'io.write_file', "operation 'io.write_file'"),
    ('math.exp', 'function', 'compat.v1.py_func', "operation 'compat.v1.py_func'"),
    ('math.exp', 'function', 'raw_ops.WriteFile', "operation 'raw_ops.WriteFile'"),
  ],
)
def test_what_a_config_may_not_name(where, key, value, words, tmp_path):
  def change(layers):
    next(v for k, v in layers.items() if where in k)['config'][key] = value

  with pytest.raises(UserError, match=words):
    load_model(changed(tmp_path, change))


@pytest.mark.parametrize(
  'part',
  [
    {'class_name': 'lambda_layer.Lambda', 'module': 'tf_keras.src.layers.core'},
    {'class_name': 'Other', 'registered_name': 'Lambda', 'module': 'keras.layers'},
    {
      'class_name': '__typespec__',
      'spec_name': 'Lambda',
      'registered_name': 'Lambda',
      'module': 'keras.layers',
    },
    function('keras.activations', 'backend.function'),
    function('keras.activations', 'other') | {'registered_name': 'backend'},
  ],
)
def test_names_by_which_something_else_is_found(part):
  with pytest.raises(UserError, match=r'm\.keras (names the function|contains a custom layer)'):
    refuse_config({'config': {'layers': [{'config': {}, **part}]}}, 'm.keras')


def test_layers_of_other_modules_are_not_imported(tmp_path):
  def change(layers):
    layers['dense'] |= {'module': 'antigravity', 'class_name': 'Dense', 'registered_name': 'Dense'}

  with pytest.raises(UserError, match=r'custom layer or object, Dense of module .antigravity'):
    load_model(changed(tmp_path, change))


def test_programs_in_layers_are_refused(tmp_path):
  def change(layers):
    layers['dense'] |= {'class_name': 'TorchModuleWrapper'}

  with pytest.raises(UserError, match='has a TorchModuleWrapper, which runs a program'):
    load_model(changed(tmp_path, change))


def test_a_vocabulary_is_in_the_file(tmp_path):
  def change(layers):
    layers['dense'] |= {'class_name': 'StringLookup'}
    layers['dense']['config'] = {'name': 'dense', 'vocabulary': '/etc/hostname'}

  with pytest.raises(UserError, match="file '/etc/hostname' as the vocabulary of 'dense'"):
    load_model(changed(tmp_path, change))


def test_what_is_harmless_is_loaded(tmp_path):
  """Operations, own classes that are imported, SavedModel folders."""
  x = keras.Input((4, 4, 3))
  y = tf.nn.relu6(tf.concat([x, tf.reverse(x, [1])], -1)) / 6.0
  y = L.Dense(2, 'gelu', kernel_regularizer='l2')(tf.math.reduce_mean(y[:, ::2], [1, 2]))
  model = keras.Model(x, y)
  inputs = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
  for name in ('m.h5', 'm.keras', 'm'):
    model.save(tmp_path / name)
    np.testing.assert_allclose(load_model(tmp_path / name)(inputs), model(inputs), atol=1e-6)


def test_files_without_a_config_are_refused(tmp_path):
  with h5py.File(tmp_path / 'm.h5', 'w'):
    pass
  shutil.copy(tmp_path / 'm.h5', tmp_path / 'n.keras')
  for name in ('m.h5', 'n.keras'):
    with pytest.raises(UserError, match='holds weights alone, but a whole model was expected'):
      load_model(tmp_path / name)


def test_pickles_are_read_in_one_place_and_nothing_else_runs_what_a_file_holds():
  code = 'from joblib import load\nexec(a)\nload(f, allow_pickle=True)\nyaml.load(f)\nmodel.eval()'
  assert len(RISKS.findall(code)) == 4
  found = {
    (str(path.relative_to(ROOT)), *filter(None, risk))
    for room in ('learners', 'nets', 'utils')
    for path in (ROOT / room).rglob('*.py')
    for risk in RISKS.findall(path.read_text(encoding='utf-8'))
  }
  among_processes = {f'utils/training/distributed/{name}.py' for name in ('objects', 'chief')}
  assert found == {(name, 'pickle') for name in ('nets/datasets/cifar10.py', *among_processes)}
