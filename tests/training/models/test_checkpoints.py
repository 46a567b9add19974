import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from secateurs.utils.errors import UserError
from secateurs.utils.training.models.checkpoints import CheckpointStore
from secateurs.utils.training.models.weight_files import read_weights
from secateurs.utils.training.models.weights import assign_weights


def variables(value):
  return {'model': {'a/kernel': tf.Variable([value, value]), 'b.c/x_y': tf.Variable(value)}}


def save(store, value, **state):
  store.save(variables(value), {'value': value, **state})


def test_round_trip(tmp_path):
  store = CheckpointStore(tmp_path / 'm' / 'model.ckpt')
  assert store.latest() is None
  save(store, 3.0, phase='x')
  saved = CheckpointStore(tmp_path / 'm' / 'model.ckpt').latest()
  assert saved.state == {'value': 3.0, 'phase': 'x'}
  targets = variables(0.0)['model']
  saved.restore(targets, group='model')
  np.testing.assert_array_equal(targets['a/kernel'].numpy(), [3, 3])
  assert targets['b.c/x_y'].numpy() == 3


def test_no_other_group_is_read(tmp_path, monkeypatch):
  groups = {**variables(1.0), 'optimizer': {'a/kernel': tf.Variable(2.0)}}
  store = CheckpointStore(tmp_path / 'model.ckpt')
  store.save(groups, {})
  read, load = [], tf.train.load_checkpoint

  class Reader:
    def __init__(self, prefix):
      self._reader = load(prefix)

    def get_variable_to_shape_map(self):
      return self._reader.get_variable_to_shape_map()

    def get_tensor(self, key):
      read.append(key)
      return self._reader.get_tensor(key)

  monkeypatch.setattr(tf.train, 'load_checkpoint', Reader)
  assert store.latest().values('optimizer') == {'a/kernel': 2.0}
  assert len(read) == 1


def test_files_are_never_whole_in_memory(tmp_path):
  store, size = CheckpointStore(tmp_path / 'model.ckpt'), 1 << 24
  store.save({'model': {'a': tf.Variable(tf.zeros(size // 4))}}, {})
  tracemalloc.start()
  assert store.latest() is not None
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < size / 4


def test_the_last_two_are_kept(tmp_path):
  store = CheckpointStore(tmp_path / 'model.ckpt')
  for value in range(5):
    save(store, float(value))
  assert sorted(p.name for p in tmp_path.glob('*.json')) == [
    'model.ckpt-4.json',
    'model.ckpt-5.json',
  ]
  assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(
  'damage', ['cut data', 'flip data', 'no index', 'no record', 'cut record', 'state', 'sum']
)
def test_a_torn_or_damaged_checkpoint_is_never_chosen(tmp_path, capsys, damage):
  store = CheckpointStore(tmp_path / 'model.ckpt')
  save(store, 1.0)
  save(store, 2.0)
  data = tmp_path / 'model.ckpt-2.data-00000-of-00001'
  record = tmp_path / 'model.ckpt-2.json'
  if damage == 'cut data':
    data.write_bytes(data.read_bytes()[:-1])
  elif damage == 'flip data':
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
  elif damage == 'no index':
    (tmp_path / 'model.ckpt-2.index').unlink()
  elif damage == 'no record':
    record.unlink()
  elif damage == 'cut record':
    record.write_text(record.read_text()[:20])
  else:
    before, after = {'state': ('2.0', '6.0'), 'sum': ('"crc32": ', '"crc22": ')}[damage]
    assert before in record.read_text()
    record.write_text(record.read_text().replace(before, after))
  assert store.latest().state['value'] == 1.0
  assert store.latest().number == 1
  said = capsys.readouterr().out
  if damage == 'no record':  # As a kill leaves it.
    assert said == ''
  else:
    assert said.count('\n') == 1
    assert f'{tmp_path}/model.ckpt-2 is damaged' in said
    assert f'{tmp_path}/model.ckpt-1 is taken' in said
    with pytest.raises(UserError, match=r'model\.ckpt-2 is (damaged|no weights file)'):
      read_weights(tmp_path / 'model.ckpt-2')
  save(store, 3.0)  # Numbers go on behind the torn one.
  assert store.latest().number == 3


def test_checkpoints_without_a_sum_are_read_and_damage_of_the_only_one_is_said(tmp_path, capsys):
  store, record = CheckpointStore(tmp_path / 'model.ckpt'), tmp_path / 'model.ckpt-1.json'
  store.save(variables(1.0), {'a': {1: (2, None)}, 'ü': float('nan')})
  assert store.latest().state['a'] == {'1': [2, None]}
  values = json.loads(record.read_text())
  del values['crc32']
  record.write_text(json.dumps(values))
  assert store.latest() is not None
  assert capsys.readouterr().out == ''
  record.write_text('{}')
  assert store.latest() is None
  assert 'there is no whole one, what it held is done again' in capsys.readouterr().out


def test_other_shapes_are_listed(tmp_path):
  store = CheckpointStore(tmp_path / 'model.ckpt')
  save(store, 1.0)
  wrong = {'a/kernel': tf.Variable([[0.0]]), 'new': tf.Variable(0.0)}
  with pytest.raises(UserError) as error:
    store.latest().restore(wrong, group='model')
  text = str(error.value)
  assert 'a/kernel: expected (1, 1), found (2,)' in text
  assert 'new: expected (), found nothing' in text
  assert 'b.c/x_y: expected nothing, found ()' in text
  np.testing.assert_array_equal(wrong['a/kernel'].numpy(), [[0]])


@pytest.mark.parametrize('kind', ['c8', 'U2', 'M8[s]'])
def test_values_that_are_no_numbers_are_listed(kind):
  variables = {'a': tf.Variable([0.0]), 'b': tf.Variable([0.0])}
  with pytest.raises(UserError, match=r'x\.npz does not fit .*\(b: expected numbers, found '):
    assign_weights(variables, {'a': np.ones(1), 'b': np.zeros(1, kind)}, 'x.npz')
  assert variables['a'].numpy() == [0]


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='could not be written'):
    save(CheckpointStore(tmp_path / 'file' / 'model.ckpt'), 1.0)


SAVER = r"""
import os
import sys

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()
import tensorflow as tf

from secateurs.utils.training.models.checkpoints import CheckpointStore


def save_without_end():
  store = CheckpointStore(sys.argv[1])
  n = store.latest().number if store.latest() else 0
  while True:
    n += 1
    group = {str(i): tf.fill([200, 200], float(n)) for i in range(20)}
    store.save({'model': {k: tf.Variable(v) for k, v in group.items()}}, {'n': n})
    os.write(1, b'%d\n' % n)  # In one piece, whatever Python's buffering: it may be killed here.


for _ in range(int(sys.argv[2])):
  # Nothing was computed yet, so that a fork is as good as a process that imports TensorFlow anew.
  child = os.fork()
  if not child:
    os.write(1, b'started %d\n' % os.getpid())
    save_without_end()
  os.waitpid(child, 0)
  os.write(1, b'killed\n')
  sys.stdin.readline()
"""


@pytest.mark.slow
def test_kill_at_any_moment(tmp_path):
  """A process that saves without end is killed again and again; what is left is always whole."""
  prefix, nb_kills = tmp_path / 'model.ckpt', 6
  rng = np.random.RandomState(0)
  parent = subprocess.Popen(
    [sys.executable, '-c', SAVER, str(prefix), str(nb_kills)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  told = 0
  with parent:
    for _ in range(nb_kills):
      word, child = parent.stdout.readline().split()
      assert word == 'started'
      numbers = [int(parent.stdout.readline())]
      time.sleep(rng.uniform(0, 0.3))
      os.kill(int(child), signal.SIGKILL)
      numbers += map(int, iter(parent.stdout.readline, 'killed\n'))
      assert numbers[0] > told  # It went on from what was left, and saved something.
      told = numbers[-1]
      saved = CheckpointStore(prefix).latest()
      assert saved is not None
      assert saved.state['n'] >= told
      for value in saved.values('model').values():
        np.testing.assert_array_equal(value, saved.state['n'])
      parent.stdin.write('\n')
      parent.stdin.flush()
  assert parent.returncode == 0


def test_records_are_json_that_a_person_can_read(tmp_path):
  save(CheckpointStore(tmp_path / 'model.ckpt'), 1.0)
  record = json.loads((tmp_path / 'model.ckpt-1.json').read_text())
  assert set(record) == {'state', 'files', 'crc32'}
  assert set(record['files']) == {'model.ckpt-1.index', 'model.ckpt-1.data-00000-of-00001'}
