"""Every learner on two ranks: whole runs, and runs of which a rank is killed and which go on."""

import pytest

from secateurs.learners import learners

pytestmark = pytest.mark.slow
NAMES = sorted(learners())


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('learners')


@pytest.fixture(scope='module')
def whole(run_ranks, folder):
  """What both ranks give of uninterrupted runs."""
  done, given = run_ranks('learners_job.py', folder, 'whole', *NAMES)
  assert done.returncode == 0, done.stdout + done.stderr
  return given


@pytest.fixture(scope='module')
def resumed(run_ranks, folder, whole):
  """What both ranks give of runs that went on after a kill."""
  for name in NAMES:
    done, given = run_ranks('learners_job.py', folder, 'killed', name)
    assert done.returncode != 0
    assert given == [None, None], f'{name} came to its end before it was killed'
    assert 'Process 1 exit with status code' in done.stdout + done.stderr
  done, given = run_ranks('learners_job.py', folder, 'resumed', *NAMES)
  assert done.returncode == 0, done.stdout + done.stderr
  assert 'Going on from' in done.stdout
  return given


@pytest.mark.parametrize('name', NAMES)
def test_ranks_end_with_the_same_network(name, whole):
  mine, other = (given[name] for given in whole)
  assert mine == other
  assert mine['report']['nb_workers'] == 2


@pytest.mark.parametrize('name', NAMES)
def test_a_run_that_lost_a_rank_goes_on_to_the_same_end(name, whole, resumed):
  expected, found = whole[0][name], resumed[0][name]
  assert found['checksum'] == expected['checksum']
  assert found['kept'] == expected['kept']
  assert found['report']['compressed']['accuracy'] == expected['report']['compressed']['accuracy']
