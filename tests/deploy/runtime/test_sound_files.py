"""Damaged .tflite files: found in a separate process, which may end."""

import os
import subprocess
from unittest import mock

import numpy as np
import pytest
from small_nets import flatten_net

from secateurs.utils.deploy import export_model, tflite_bytes
from secateurs.utils.deploy.runtime import sound_files, trial_run
from secateurs.utils.deploy.runtime.sound_files import refusals, require_sound
from secateurs.utils.errors import UserError


@pytest.fixture(scope='module')
def content():
  return tflite_bytes(flatten_net())


@pytest.fixture
def program(tmp_path, monkeypatch):
  """Puts other code in the place of the one that runs files."""

  def put(code):
    path = tmp_path / 'program.py'
    path.write_text(f'import os, signal, sys, time\nprint("ready", flush=True)\n{code}\n')
    monkeypatch.setattr(trial_run, '__file__', str(path))

  return put


def test_files_run_once(tmp_path, content, monkeypatch):
  paths = [tmp_path / f'{number}.tflite' for number in range(2)]
  for path in paths:
    path.write_bytes(content)
  require_sound(paths)
  monkeypatch.setattr(subprocess, 'run', None)
  require_sound([*paths, tmp_path / 'none.tflite'])
  os.utime(paths[1], (1, 1))
  with pytest.raises(TypeError):
    require_sound(paths)


def test_the_damaged_one_of_several_is_named(tmp_path, content):
  paths = [tmp_path / f'{number}.tflite' for number in range(3)]
  for path in paths:
    path.write_bytes(content)
  paths[1].write_bytes(content[: len(content) // 2])
  with pytest.raises(
    UserError, match=r'/1\.tflite does not run as a TensorFlow Lite model \(.+\): it'
  ) as error:
    require_sound(paths, every_kernel=True)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('code', 'text'),
  [
    (
      'os.kill(os.getpid(), signal.SIGSEGV)',
      r'1\.tflite .*ends the process that runs it by SIGSEGV',
    ),
    ('print("ran: null", flush=True); os.abort()', r'2\.tflite .*by SIGABRT'),
    ('sys.exit("No room.\\nlast line.")', r'1\.tflite .*\(last line\): it is damaged'),
    ('time.sleep(60)', r'1\.tflite .*not at its end after 2 s'),
  ],
)
def test_whatever_ends_the_process_is_a_sentence(tmp_path, program, monkeypatch, code, text):
  paths = [tmp_path / f'{number}.tflite' for number in (1, 2)]
  for path in paths:
    path.write_bytes(b'x')
  program(code)
  monkeypatch.setattr(sound_files, '_SECONDS', 2.0)
  with pytest.raises(UserError, match=text):
    require_sound(paths)


def test_all_damaged_files_are_found_and_none_suffers_from_another(tmp_path, content, program):
  paths = [tmp_path / f'{number}.tflite' for number in range(4)]
  for path in paths:
    path.write_bytes(content)
  for path in paths[1:3]:
    path.write_bytes(content[: len(content) // 2])
  found = dict(refusals(paths))
  assert list(found) == paths[1:3]
  assert all(str(path) in str(error) for path, error in found.items())
  # A process that ends after a damaged file: what it was at is tried once more.
  program('import json\nnames = json.loads(sys.argv[1])["files"]\n'
          'if "0.t" in names[0]: print(\'ran: "damaged"\'); os.abort()\n'
          'print("ran: null\\nran: null", flush=True); os.abort()')  # fmt: skip
  os.utime(paths[0], (1, 1))
  os.utime(paths[3], (1, 1))
  assert [path.name for path, _ in refusals(paths)] == ['0.tflite', '3.tflite']


def test_where_nothing_can_be_tried_nothing_is_refused(tmp_path, program):
  (tmp_path / 'x.tflite').write_bytes(b'x')
  program('print("ran: null"); sys.exit(1)')
  require_sound([tmp_path / 'x.tflite'])


def test_what_was_just_exported_needs_no_trial(tmp_path, monkeypatch):
  exported = export_model(flatten_net(), tmp_path / 'm', formats=('tflite',))
  monkeypatch.setattr(subprocess, 'run', None)
  require_sound([exported.tflite.path])


def test_outputs_that_no_operator_makes_and_damaged_names_are_found():
  """A damaged file can name any tensor as its output; it runs, but there is nothing to read."""
  interpreter = mock.Mock()
  interpreter.get_input_details.return_value = [{'index': 0, 'shape': [1, 2], 'dtype': np.int8}]
  interpreter.get_output_details.return_value = [{'index': 1}]
  interpreter.get_tensor_details.return_value = []
  interpreter.resize_tensor_input.side_effect = RuntimeError('For single samples only.')
  trial_run._run(interpreter)
  interpreter.get_tensor_details.side_effect = UnicodeDecodeError('utf-8', b'\xef', 0, 1, 'a name')
  with pytest.raises(UnicodeDecodeError):
    trial_run._run(interpreter)
  interpreter.get_tensor_details.side_effect = None
  interpreter.get_tensor.side_effect = ValueError('Tensor data is null.')
  with pytest.raises(ValueError, match='null'):
    trial_run._run(interpreter)
