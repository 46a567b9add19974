import dataclasses
import os
import re
import subprocess
import sys
import zipfile

import pytest

from secateurs.learners import cli
from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.search.config import JsConfig
from secateurs.nets import front
from secateurs.nets.saved_model import SavedModelConfig
from secateurs.utils.errors import UserError
from secateurs.utils.hdf5_files import SIGNATURE


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
  assert front.main(['compress']) == 2
  assert 'needs a model' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('command', 'text'),
  [
    ('compress', 'secateurs compress MODEL --data DATA'),
    ('evaluate', 'secateurs evaluate MODEL --data DATA'),
    ('verify', 'secateurs verify MODEL --data DATA'),
    ('inspect', 'usage: secateurs inspect'),
    ('latency-table', 'usage: secateurs latency-table'),
    ('compare', 'usage: secateurs compare'),
    ('methods', 'usage: secateurs methods'),
  ],
)
@pytest.mark.parametrize('flag', ['-h', '--help'])
def test_help_of_a_command_names_it(command, text, flag, monkeypatch, capsys):
  monkeypatch.setattr(cli, 'main', lambda *given: cli.exit_code(*given))
  assert front.main([command, flag]) == 0
  said, complained = capsys.readouterr()
  assert said.startswith(text)
  assert complained == ''


@pytest.mark.parametrize(
  'arguments',
  [
    ['inspect'],
    ['inspect', 'm.keras', '--ratio', 'half'],
    ['latency-table', 'm.keras', '--clock', 'sun'],
    ['compare'],
    ['methods', 'x', '--foo'],
    ['evaluate', '--data', 'x'],
    ['evaluate', 'resnet_at_digits', '--exec_mode', 'train'],
  ],
)
def test_a_command_line_that_cannot_be_read_ends_with_2(arguments, capsys):
  assert front.main(arguments) == 2
  said, complained = capsys.readouterr()
  assert said == ''
  assert re.fullmatch(r'Error: .*\.\n', complained)


@pytest.mark.parametrize('command', ['inspect', 'latency-table', 'compare', 'evaluate', 'verify'])
def test_a_mistake_ends_with_1(command, capsys):
  assert front.main([command, 'missing.keras']) == 1
  assert re.fullmatch('Error: .*\n', capsys.readouterr().err)


@pytest.mark.parametrize(
  'arguments',
  [['help'], ['methods'], ['compare', '-h'], ['verify', 'm.h5']],
)
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='a device of Linux')
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_output_that_cannot_be_written_is_one_sentence(arguments, unbuffered, tmp_path):
  (tmp_path / 'm.h5').write_bytes(SIGNATURE)
  with open('/dev/full', 'w') as full:
    done = subprocess.run(
      [sys.executable, '-m', 'secateurs', *arguments],
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
      cwd=tmp_path,
      env={**os.environ, 'PYTHONUNBUFFERED': unbuffered},
    )
  assert done.returncode == 1
  assert re.fullmatch(
    r'Error: What the command prints cannot be written \(No space left on device\): .*\n',
    done.stderr,
  )


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
