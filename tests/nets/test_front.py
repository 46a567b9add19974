import dataclasses
import os
import re
import subprocess
import sys
import zipfile

import pytest

from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.search.config import JsConfig
from secateurs.nets import front
from secateurs.nets.saved_model import SavedModelConfig
from secateurs.utils.errors import UserError


def test_a_model_and_data_become_flags_of_the_search(tmp_path):
  model, flags = front.compress_arguments(
    ['model.keras', '--data', str(tmp_path), '--max_drop=0.02', '--minimise', 'ram', '--seed', '3']
  )
  assert model == 'model.keras'
  assert flags == [
    '--learner=joint-search',
    '--enbl_dst',
    '--enbl_bf16',
    '--data_set=image_folder',
    f'--data_dir_local={tmp_path}',
    '--js_max_drop=0.02',
    '--js_minimise',
    'ram',
    '--seed',
    '3',
  ]


def test_flags_of_the_search_need_no_prefix():
  given = ['m', '--norms', 'cut', '--noeven_splits', '--heads=whole', '--nb_tries', '3']
  expected = ['--js_norms', 'cut', '--nojs_even_splits', '--js_heads=whole', '--js_nb_tries', '3']
  assert front.compress_arguments(given)[1][3:] == expected
  assert front.with_prefix({'norms': 'cut', 'seed': 1}) == {'js_norms': 'cut', 'seed': 1}
  assert set(front._SHORT) == set(fields(JsConfig)) - {'save_path', 'save_path_eval'}
  # As of the run, --max_drop is how far an int8 file may fall behind: the search has its own.
  others = (RunConfig, TrainConfig, DistillConfig, QuantConfig, SavedModelConfig)
  assert set(front._SHORT) & {name for one in others for name in fields(one)} == {'max_drop'}


def fields(config):
  return [field.name for field in dataclasses.fields(config)]


def test_a_learner_keeps_its_own_flags(tmp_path):
  (tmp_path / 'train.npz').touch()
  given = ['m.h5', f'--data={tmp_path}', '--learner', 'l1', '--skip', 'a']
  _, flags = front.compress_arguments(given)
  expected = ['--data_set=arrays', f'--data_dir_local={tmp_path}', '--learner', 'l1', '--skip', 'a']
  assert flags == expected


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ([], 'needs a model'),
    (['--max_drop', '1'], 'needs a model'),
    (['m', '--data', 'no'], 'no folder'),
    (['m', '--data', __file__], 'a file of another kind'),
    (['m', '--data'], '--data takes one value, as in --data photos, but an empty one or none'),
    (['m', '--data='], '--data takes one value'),
    (['m', '--data=a', '--data', 'b'], 'but a and b was given'),
  ],
)
def test_mistakes_are_one_sentence(arguments, text):
  with pytest.raises(UserError, match=text):
    front.compress_arguments(arguments)


def test_commands(capsys):
  assert front.main([]) == 2
  assert front.main(['help']) == 0
  assert 'latency-table' in capsys.readouterr().out
  assert front.main(['compres']) == 2
  assert 'did you mean compress?' in capsys.readouterr().err
  assert front.main(['compress']) == 1
  assert 'needs a model' in capsys.readouterr().err


def test_the_command_is_light(tmp_path):
  code = (
    'import sys, secateurs, secateurs.nets.front as front; front.main(["help"]); '
    'print("tensorflow" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=True,
    cwd=tmp_path,
    env=os.environ,
  )
  assert done.stdout.endswith('False\n')


def test_images_and_arrays_alone_are_told_from_classes(tmp_path):
  def kind(data):
    return front.compress_arguments(['m', f'--data={data}', '--learner=l1'])[1][0]

  for name in ('flat', 'classes', 'halves'):
    (tmp_path / name).mkdir()
  (tmp_path / 'flat' / 'one.JPG').touch()
  (tmp_path / 'classes' / 'cats').mkdir()
  (tmp_path / 'halves' / 'train').mkdir()
  (tmp_path / 'halves' / 'train' / 'one.png').touch()
  (tmp_path / 'alone.npy').touch()
  assert kind(tmp_path / 'flat') == kind(tmp_path / 'halves') == '--data_set=images'
  assert kind(tmp_path / 'classes') == '--data_set=image_folder'
  assert kind(tmp_path / 'alone.npy') == '--data_set=arrays'


def files_of_other_kinds(folder):
  (folder / 'model.tflite').write_bytes(b'\x1c\0\0\0TFL3' + bytes(20))
  (folder / 'graph.pb').write_bytes(b'\n\x10' + bytes(20))
  (folder / 'words.keras').write_text('not a model\n')
  (folder / 'saved').mkdir()
  (folder / 'saved' / 'saved_model.pb').write_bytes(b'\x08\x01')
  (folder / 'empty.h5').touch()
  with zipfile.ZipFile(folder / 'net.pt', 'w') as archive:
    archive.writestr('net/data.pkl', b'')


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('model.tflite', 'is a TensorFlow Lite file'),
    ('graph.pb', 'is a frozen graph'),
    ('words.keras', 'is a text file'),
    ('saved', 'is a SavedModel folder without the layers of Keras'),
    ('empty.h5', 'is an empty file'),
    ('net.pt', 'is a PyTorch model'),
    ('missing.keras', 'does not exist'),
    ('resnet_at_cifar1', r'did you mean resnet_at_cifar10\?'),
  ],
)
def test_models_of_other_kinds_are_one_sentence_at_once(name, text, tmp_path, monkeypatch, capsys):
  files_of_other_kinds(tmp_path)
  monkeypatch.chdir(tmp_path)
  assert front.main(['compress', name, '--data', '.']) == 1
  said = capsys.readouterr().err
  assert re.search(text, said)
  assert said.count('\n') == 1
