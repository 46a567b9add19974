import os
import subprocess
import sys

import pytest

from secateurs.nets import front
from secateurs.utils.errors import UserError


def test_a_model_and_data_become_flags_of_the_search(tmp_path):
  model, flags = front.compress_arguments(
    ['model.keras', '--data', str(tmp_path), '--max_drop=0.02', '--minimise', 'ram', '--seed', '3']
  )
  assert model == 'model.keras'
  assert flags == [
    '--learner=joint-search',
    '--nb_smpls_val=-1',
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
