"""Runs jobs of two ranks under Horovod: as few as there can be, for each start takes a while."""

import dataclasses
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

JOB = Path(__file__).with_name('ranks_job.py')


@pytest.fixture(scope='session')
def horovodrun():
  """Path of horovodrun, where Horovod is installed."""
  if importlib.util.find_spec('horovod') is None:
    pytest.skip('Horovod is not installed: ./scripts/install_horovod.sh')
  return str(Path(sys.executable).parent / 'horovodrun')


@dataclasses.dataclass(frozen=True)
class Job:
  """A job that has ended.

  Attributes:
    folder: of its files.
    done: the process's end.
    stages: those that it should have run; it dies in `stopped`.
    learners: names of those that it ran.
  """

  folder: Path
  done: subprocess.CompletedProcess
  stages: tuple[str, ...]
  learners: tuple[str, ...]

  @property
  def output(self) -> str:
    return self.done.stdout + self.done.stderr

  def given(self, stage: str) -> list[Any]:
    """What a stage has given, by rank."""
    paths = [self.folder / f'{stage}-{rank}.pkl' for rank in range(2)]
    for path in paths:
      assert path.is_file(), f'Stage {stage} did not come to its end:\n{self.output}'
    if 'stopped' not in self.stages:
      assert self.done.returncode == 0, self.output
    return [pickle.loads(path.read_bytes()) for path in paths]


@pytest.fixture(scope='session')
def run_ranks(horovodrun):
  """Runs stages of `ranks_job` in a folder on two ranks."""

  def run(folder, *stages, learners=()):
    command = [horovodrun, '--gloo', '-np', '2', '-H', 'localhost:2', '--cycle-time-ms', '0.5']
    done = subprocess.run(
      [*command, sys.executable, str(JOB), str(folder), *stages],
      capture_output=True,
      text=True,
      check=False,
      timeout=1800,
      env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3', 'RANKS_LEARNERS': ' '.join(learners)},
    )
    return Job(folder, done, stages, tuple(learners))

  return run


@pytest.fixture(scope='session')
def first_job(request, run_ranks, tmp_path_factory):
  """The job that ends with a rank's death; of its stages, those that the selected tests ask about."""
  items = request.session.items
  files = {item.path.stem for item in items}
  stages = ['collectives'] if 'test_collectives' in files else []
  stages += ['whole', 'stopped'] if 'test_learners_on_ranks' in files else []
  names = {
    item.callspec.params['name'] for item in items if item.path.stem == 'test_learners_on_ranks'
  }
  return run_ranks(tmp_path_factory.mktemp('ranks'), *stages, learners=sorted(names))
