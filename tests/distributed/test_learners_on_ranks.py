"""Every learner on two ranks: whole runs, and runs that were stopped in the middle and go on."""

import re

import pytest
from alike import alike

from secateurs.learners import learners

pytestmark = pytest.mark.slow
FEW = ('chn-pruned', 'gate-pruned', 'uniform-quant', 'weight-sparse')
NAMES = [*FEW, *alike(*sorted(set(learners()) - set(FEW)))]


@pytest.fixture(scope='module')
def whole(first_job):
  """What both ranks give of uninterrupted runs."""
  return first_job.given('whole')


@pytest.fixture(scope='module')
def resumed(run_ranks, first_job):
  """What both ranks give of runs that went on in new processes, after Ctrl-C or a rank's death."""
  *interrupted, killed = names = first_job.learners
  for name in interrupted:
    for rank in range(2):
      assert (first_job.folder / f'{name}-stopped-on-{rank}').exists(), first_job.output
  assert first_job.done.returncode != 0, f'{killed} came to its end before a rank was killed'
  assert not list(first_job.folder.glob('stopped-*.pkl'))
  assert 'Process 1 exit with status code' in first_job.output
  job = run_ranks(first_job.folder, 'resumed', learners=names)
  given = job.given('resumed')
  found = dict(
    re.findall(r'Resuming from \S*/broken/([\w-]+)/\S+: finished are (.*)\.', job.done.stdout)
  )
  assert sorted(found) == sorted(names), job.output
  for name in names:
    if name != 'chn-pruned':  # Its groups of layers are trained for less steps.
      assert '3 steps of phase' in found[name]
  return given


@pytest.mark.parametrize('name', NAMES)
def test_ranks_end_with_the_same_network(name, whole):
  mine, other = (given[name] for given in whole)
  assert mine == other
  assert mine['report']['nb_workers'] == 2


@pytest.mark.parametrize('name', NAMES)
def test_a_run_that_was_stopped_goes_on_to_the_same_end(name, whole, resumed):
  expected, found = whole[0][name], resumed[0][name]
  assert found['checksum'] == expected['checksum']
  assert found['kept'] == expected['kept']
  assert found['report']['compressed']['score'] == expected['report']['compressed']['score']
