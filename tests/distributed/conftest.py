"""Runs scripts as the two ranks of a Horovod job."""

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture(scope='session')
def horovodrun():
  """Path of horovodrun, where Horovod is installed."""
  if importlib.util.find_spec('horovod') is None:
    pytest.skip('Horovod is not installed: ./scripts/install_horovod.sh')
  return str(Path(sys.executable).parent / 'horovodrun')


@pytest.fixture(scope='session')
def run_ranks(horovodrun):
  """Runs a script of this folder on two ranks; returns the process's end and what each rank gave."""

  def run(script, folder, *words):
    folder.mkdir(parents=True, exist_ok=True)
    command = [horovodrun, '--gloo', '-np', '2', '-H', 'localhost:2', '--cycle-time-ms', '0.5']
    done = subprocess.run(
      [*command, sys.executable, str(FOLDER / script), str(folder), *words],
      capture_output=True,
      text=True,
      check=False,
      timeout=900,
      env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3'},
    )
    paths = [folder / f'rank{rank}.pkl' for rank in range(2)]
    given = [pickle.loads(path.read_bytes()) if path.is_file() else None for path in paths]
    for path in paths:
      path.unlink(missing_ok=True)
    return done, given

  return run
