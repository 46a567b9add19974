"""What each call of `distributed` gives on two ranks, and that two ranks train like one."""

import json

import jobs
import numpy as np
import pytest

from secateurs.utils.training import distributed

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def job(first_job):
  """Folder, and results of both ranks."""
  return first_job.folder / 'collectives', first_job.given('collectives')


def both(job, key):
  values = [given[key] for given in job[1]]
  assert repr(values[0]) == repr(values[1])
  return values[0]


def test_ranks_know_their_places_and_their_children_do_not(job):
  assert [given['shard'] for given in job[1]] == [(0, 2), (1, 2)]
  assert not both(job, 'launched')
  assert both(job, 'threads') >= 1


def test_sums_are_exact_and_keep_shapes_and_types(job):
  matrix, whole, number = both(job, 'sum')
  np.testing.assert_array_equal(matrix, 3 * np.arange(4.0).reshape(2, 2))
  assert whole == 2**41 + 1
  assert whole.dtype == np.int64
  assert number == 1.0


def test_objects_travel(job):
  assert both(job, 'object') == {'rank': 0}
  assert both(job, 'objects') == ['', 'x']


def test_the_chief_acts_alone_and_its_errors_reach_all(job):
  assert both(job, 'chief') == (0, 1)
  assert both(job, 'refused') == 'The chief has no data.'
  assert [given['file'] for given in job[1]] == [(True, 'content'), (False, 'content')]


def test_ranks_that_differ_are_told_how(job):
  assert '--seed 0 on rank 0 but 1 on rank 1' in both(job, 'disagreement')
  assert both(job, 'agreement') is None
  assert '--momentum 0.9 on rank 0 but 0.8 on rank 1' in both(job, 'different flags')
  assert not (job[0] / 'never').exists()


def test_variables_are_averaged_by_weight_and_taken_from_the_chief(job):
  assert [given['mean_variables'][1] for given in job[1]] == [[0], [1]]  # Counters are no means.
  np.testing.assert_allclose(job[1][1]['mean_variables'][0], [1.0, 3.75])
  assert both(job, 'broadcast') == [0]


@pytest.mark.parametrize(('how', 'tolerance'), [('none', 1e-6), ('fp16', 2e-3), ('bf16', 2e-2)])
def test_means_inside_compiled_loops(job, how, tolerance):
  value, ones = both(job, 'means')[how]
  np.testing.assert_allclose(value, 1.5**3 * np.linspace(-1, 1, 7), rtol=tolerance)
  np.testing.assert_array_equal(ones, np.full((2, 3), 1.5))


def test_one_rank_of_a_host_goes_first(job):
  first, second = (given['first_on_host'] for given in job[1])
  assert second - first >= 0.2


def test_hooks_do_on_two_ranks_what_they_do_on_one(job):
  """Penalties are added once to the mean of the gradients, constraints see the same weights."""
  two, one = both(job, 'hooks'), jobs.train_with_hooks()
  assert len(one) == 10
  np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-7)
  np.testing.assert_array_equal(np.equal(two, 0), np.equal(one, 0))
  assert one[-1][0] == 0


def logged(folder, name, phase):
  lines = (folder / 'logs' / name / 'metrics.jsonl').read_text().splitlines()
  return [line for line in map(json.loads, lines) if line['phase'] == phase]


@pytest.mark.parametrize(
  ('name', 'net'), [('full-prec', 'lenet'), ('weight-sparse', 'lenet'), ('full-prec', 'frozen')]
)
def test_two_ranks_of_b_samples_train_like_one_of_2b(job, name, net, tmp_path):
  """Same order of samples, same augmentation, same losses: to 1e-4 over 20 steps."""
  if name == 'weight-sparse':
    # Its baseline is the job's, so that nothing but its own training is compared.
    (tmp_path / 'one').mkdir()
    (tmp_path / 'one' / 'models').symlink_to(job[0] / 'weight-sparse-lenet' / 'models')
  learner = jobs.make(name, tmp_path / 'one', 1, net=net, batch_size=64)
  phase = {'full-prec': 'train', 'weight-sparse': 'sparsify'}[name]
  learner.run_phases(until=phase)
  one = logged(tmp_path / 'one', name, phase)
  two = logged(job[0] / f'{name}-{net}', name, phase)
  assert [line['step'] for line in one] == list(range(1, jobs.NB_STEPS + 1))
  for a, b in zip(one, two, strict=True):
    assert b['loss'] == pytest.approx(a['loss'], abs=1e-4)
    assert b['lrn_rate'] == pytest.approx(a['lrn_rate'])
    assert b.get('sparsity') == a.get('sparsity')


@pytest.mark.parametrize(
  ('name', 'net'),
  [
    ('full-prec', 'lenet'),
    ('weight-sparse', 'lenet'),
    ('full-prec', 'frozen'),
    ('full-prec', 'moving'),
  ],
)
def test_weights_masks_and_statistics_are_the_same_bytes(job, name, net):
  assert both(job, (name, net))


def test_an_evaluation_that_is_shared_has_the_exact_totals(job):
  shared, alone = both(job, 'evaluation'), job[1][0]['evaluation alone']
  assert (shared.score, shared.nb_samples) == (alone.score, alone.nb_samples)
  assert shared.nb_samples == 360
  assert shared.loss == pytest.approx(alone.loss, rel=1e-5)


def test_a_single_process_needs_no_horovod():
  assert (distributed.rank(), distributed.size(), distributed.shard()) == (0, 1, (0, 1))
  assert distributed.sum(3, 4.5) == [3, 4.5]
  assert distributed.from_chief(lambda: 7) == 7
  assert distributed.gather_objects('a') == ['a']
  assert distributed.broadcast_object('a') == 'a'
  assert distributed.mean(['untouched']) == ['untouched']


@pytest.mark.parametrize('task', ['binary', 'multi-label', 'regression', 'segmentation'])
def test_scores_of_all_tasks_are_those_of_one_process(task, job):
  for given in job[1]:
    shared, alone = given['tasks'][task]
    assert shared.nb_samples == alone.nb_samples == 17
    assert shared.score.value == pytest.approx(alone.score.value, rel=1e-6)
    assert shared.score.noise == pytest.approx(alone.score.noise, rel=1e-6)
    for one, other in zip(shared.figures, alone.figures, strict=True):
      assert one.value == pytest.approx(other.value, rel=1e-6)
