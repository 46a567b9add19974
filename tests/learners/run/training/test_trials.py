import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from secateurs.learners.run.training.judging import judging_samples
from secateurs.learners.run.training.trials import Candidate, Trial, best_candidates, search
from secateurs.learners.run.training.workers import Workers, require_alike, require_one_process
from secateurs.nets.datasets.given import GivenData
from secateurs.nets.datasets.ilsvrc12 import Ilsvrc12Config
from secateurs.nets.datasets.ilsvrc12 import load as load_ilsvrc12
from secateurs.nets.datasets.samples import InputSpec
from secateurs.utils.errors import UserError
from secateurs.utils.json_lines import read_records
from secateurs.utils.training.tasks.classification import Classification

NAMES = ['a', 'b', 'c']


def propose(factors):
  counts = {name: round(10 * factors.get(name, 1.0)) for name in NAMES}
  return Candidate(counts, sum(counts.values()))


def run(path, stop=None, **options):
  calls = []

  def reward(candidate):
    calls.append(candidate)
    if stop and len(calls) > stop:
      raise KeyboardInterrupt
    return candidate.counts['c'] / 100 - candidate.counts['a'] / 200

  options = {'say': lambda text: None} | options
  trials = search(NAMES, propose, reward, path, nb_trials=14, nb_random=5, seed=3, **options)
  return trials, len(calls)


def test_a_search_goes_on_where_it_was_stopped(tmp_path):
  whole, _ = run(tmp_path / 'whole')
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path / 'stopped', stop=9)
  with (tmp_path / 'stopped').open('a') as file:
    file.write('{"number": 9, "fac')  # Killed while writing.
  resumed, calls = run(tmp_path / 'stopped')
  assert calls == 5
  assert resumed == whole == read_records(tmp_path / 'whole', Trial)
  assert whole[0].factors == dict.fromkeys(NAMES, 1.0)
  assert not whole[1].factors
  assert [t.number for t in whole] == list(range(14))


def test_trials_at_the_same_time_give_the_same_search(tmp_path):
  whole, _ = run(tmp_path / 'whole')
  at_once, most, lock = 0, 0, threading.Lock()

  def reward(candidate):
    nonlocal at_once, most
    with lock:
      at_once += 1
      most = max(at_once, most)
    time.sleep(0.01 * (candidate.counts['a'] % 3))  # Later ones may be ready earlier.
    with lock:
      at_once -= 1
    return candidate.counts['c'] / 100 - candidate.counts['a'] / 200

  options = {'nb_trials': 14, 'nb_random': 5, 'seed': 3, 'say': lambda text: None}
  path = tmp_path / 'parallel'
  assert search(NAMES, propose, Workers([reward, reward]), path, **options) == whole
  assert read_records(path, Trial) == whole
  assert most == 2


def test_one_failure_ends_the_search_and_keeps_what_came_before(tmp_path):
  def reward(candidate):
    if candidate.cost == 4:
      raise ValueError('four')
    return 1.0

  workers = Workers([reward, reward])
  found = workers.map([Candidate({}, cost) for cost in (1, 3, 4, 5, 7)])
  assert [next(found), next(found)] == [1.0, 1.0]
  with pytest.raises(ValueError, match='four'):
    next(found)
  assert workers(Candidate({}, 9)) == 1.0  # No judge is held back.


def test_several_processes_judge_candidates_together(monkeypatch):
  monkeypatch.setattr('secateurs.utils.training.distributed.size', lambda: 2)
  require_one_process(1, 'cp_jobs')
  with pytest.raises(
    UserError, match=r'--cp_jobs 3 judges .* there are 2, .*: leave out --cp_jobs'
  ):
    require_one_process(3, 'cp_jobs')


def test_networks_that_draw_numbers_train_candidates_one_by_one():
  model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dropout(0.5, name='drop')])
  require_alike(1, 'fp_jobs', model)
  require_alike(2, 'fp_jobs', None)  # Judged without any training.
  with pytest.raises(UserError, match=r'--fp_jobs 2 trains .* but drop draws .*: leave out --fp_j'):
    require_alike(2, 'fp_jobs', model)


def test_whole_lines_are_not_written_again(tmp_path, monkeypatch):
  """A kill while they are would lose the search."""
  path = tmp_path / 'trials'
  trials, _ = run(path)
  with monkeypatch.context() as patch:
    patch.setattr(Path, 'write_bytes', None)
    assert read_records(path, Trial) == trials
  content = path.read_text()
  path.write_text(content[:-1])  # Only the end of the last line is missing.
  monkeypatch.setattr(os, 'replace', None)
  with pytest.raises(TypeError):
    read_records(path, Trial)
  assert path.read_text() == content[:-1]


def test_rewards_are_told_as_they_are(tmp_path):
  """They need not be accuracies."""
  lines = []
  trials, _ = run(tmp_path / 'trials', say=lines.append)
  assert f'trial 1/14  reward {trials[0].reward:.4f}  best' in lines[0]
  assert not any('%' in line for line in lines)


def test_what_the_caller_knows_is_kept_on_the_way(tmp_path):
  calls = []
  run(tmp_path / 'trials', save=lambda: calls.append(1), every=5)
  assert len(calls) == 4  # Trials 1, 2, 5 and 10.


def test_candidates_that_are_given_need_no_optuna(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'optuna', None)
  trials = search(
    NAMES, propose, lambda c: 0.5, tmp_path / 'two', nb_trials=2, nb_random=1, seed=0, say=print
  )
  assert [bool(trial.factors) for trial in trials] == [True, False]
  with pytest.raises(UserError, match='Searching ratios needs Optuna, which is not installed'):
    run(tmp_path / 'more')


def test_best_candidates_differ(tmp_path):
  trials, _ = run(tmp_path / 'trials')
  best = best_candidates(trials, 3)
  assert best[0].reward == max(t.reward for t in trials)
  assert len({str(t.counts) for t in best}) == 3
  assert best[0].reward >= best[1].reward >= best[2].reward


@pytest.mark.parametrize('nb_samples', [1, 8, 10, 30, 59, 60, 100])
def test_samples_to_judge_on_are_of_all_classes(nb_samples):
  """Data that is ordered by classes, as folders of images are."""
  images = np.arange(60, dtype=np.float32)[:, None, None, None]
  ordered = images, np.repeat(np.arange(4, dtype=np.int32), 15)
  inputs = [InputSpec('images', (1, 1, 1), tf.float32)]
  data = GivenData(ordered, ordered, inputs, Classification(4))
  images, labels = judging_samples(data, nb_samples)
  assert len(images) == len(labels) == min(nb_samples, 60)
  np.testing.assert_array_equal(labels, images.ravel() // 15)
  counts = np.bincount(labels, minlength=4)
  assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize('nb_samples', [1, 20, 40, 66])
def test_samples_to_judge_on_come_from_records_too(tiny_ilsvrc12, nb_samples):
  data = load_ilsvrc12(Ilsvrc12Config(data_dir_local=str(tiny_ilsvrc12), image_size=32))
  images, labels = judging_samples(data, nb_samples)
  assert images.shape == (len(labels), 32, 32, 3)
  assert 0 < len(labels) <= nb_samples
