"""The form of latency figures; never their size."""

import os
import time

import numpy as np
import pytest

from secateurs.learners.run.configs import RunConfig
from secateurs.utils import memory
from secateurs.utils.deploy.runtime.latency import measure_latency, summarize
from secateurs.utils.deploy.runtime.throughput import measure_throughput, pinned, run_together
from secateurs.utils.deploy.runtime.timing import Timing, spread_of_median, time_interleaved
from secateurs.utils.errors import UserError


@pytest.fixture
def paths(exported):
  files = exported('residual')[1].files
  return {'float': files['tflite'].path, 'int8': files['tflite_int8'].path}


def test_one_entry_per_file_and_number_of_threads(paths):
  results = measure_latency(paths, nb_frames=12, threads=(1, 2), warmup=1)
  assert list(results) == ['float', 'int8']
  for entries in results.values():
    assert [entry['threads'] for entry in entries] == [1, 2]
    for entry in entries:
      assert set(entry) == {
        'threads',
        'p50_ms',
        'p90_ms',
        'fps',
        'frames',
        'spread',
        'settled',
      }
      assert 0 < entry['p50_ms'] <= entry['p90_ms']
      assert entry['fps'] > 0


def test_throughput_counts_the_frames_of_all_streams(paths):
  results = measure_throughput(paths, 2)
  assert list(results) == ['float', 'int8']
  for one in results.values():
    assert set(one) == {'streams', 'fps', 'frames', 'spread'}
    assert (one['streams'], one['fps'] > 0) == (2, True)


@pytest.mark.parametrize('nb_streams', [1, 4])
def test_streams_run_at_the_same_time(nb_streams):
  """Streams that only wait do not wait for each other: by the count of one that waits alone."""
  done, seconds = run_together([lambda: time.sleep(0.02)] * nb_streams, 0.3)
  alone = seconds / 0.02
  assert nb_streams * alone * 0.5 < done <= nb_streams * (alone + 1)


def test_cores_are_held_and_given_back():
  before = os.sched_getaffinity(0)
  with pinned(1):
    assert os.sched_getaffinity(0) == {min(before)}
  assert os.sched_getaffinity(0) == before
  with pinned(None):
    assert os.sched_getaffinity(0) == before
  refused = pytest.raises(UserError, match='--bench_cores 5000 was given, but this process may use')
  with refused, pinned(5000):
    pass


def test_threads_do_not_share_cores():
  one = RunConfig(bench_cores=1)
  assert (one.threads, one.threads_left_out) == ([1], [2])
  two = RunConfig(bench_cores=2, bench_threads='1,2,4')
  assert (two.threads, two.threads_left_out) == ([1, 2], [4])
  assert RunConfig().threads == [1, 2]
  with pytest.raises(UserError, match=r'--bench_threads 2,4 asks for more .* --bench_cores 1 has'):
    RunConfig(bench_cores=1, bench_threads='2,4')


def test_streams_that_memory_does_not_hold_are_refused(paths, monkeypatch):
  monkeypatch.setattr(memory, 'free', lambda: 1000)
  with pytest.raises(UserError, match=r'--bench_streams 8 interpreters of .* give fewer streams'):
    measure_throughput(paths, 8)


class Machine:
  """A clock, and functions that move it by their times and by interruptions."""

  def __init__(self):
    self.now, self.order, self.rng = 0, [], np.random.default_rng(0)

  def clock(self):
    return self.now

  def function(self, name, nanoseconds, noise=0.0, busy=0.0):
    def run():
      self.order.append(name)
      self.now += int(nanoseconds * (1 + noise * self.rng.standard_normal()))
      self.now += 4_000_000 if self.rng.random() < busy else 0

    return run


def test_blocks_alternate_and_every_frame_but_the_first_of_a_block_counts():
  machine = Machine()
  runs = {name: machine.function(name, 1_000_000) for name in 'ab'}
  found = time_interleaved(runs, nb_frames=13, seconds=1.0, clock=machine.clock)
  assert machine.order[:20] == ['a'] * 4 + ['b'] * 4 + ['a'] * 6 + ['b'] * 6
  blocks = len(found['a'].medians)
  assert len(found['a'].times_ns) == machine.order.count('a') - blocks
  assert machine.now >= 100_000_000  # A tenth of a second, although all settled at once.
  assert (found['a'].spread, found['a'].settled) == (0.0, True)


def test_a_tiny_model_on_a_busy_machine_is_timed_rightly():
  machine = Machine()
  runs = {
    'original': machine.function('a', 20_000, 0.05, busy=0.002),
    'half': machine.function('b', 10_000, 0.05, busy=0.002),
  }
  found = time_interleaved(runs, nb_frames=5, seconds=0.5, clock=machine.clock)
  ratio = np.median(found['half'].times_ns) / np.median(found['original'].times_ns)
  assert ratio == pytest.approx(0.5, rel=0.02)
  assert all(timing.settled for timing in found.values())


def test_what_does_not_settle_ends_at_the_limit_and_is_marked():
  machine = Machine()
  runs = {'a': machine.function('a', 5_000_000, noise=0.6)}
  found = time_interleaved(runs, nb_frames=5, seconds=0.3, clock=machine.clock)
  assert 0.3e9 <= machine.now < 0.4e9
  assert not found['a'].settled
  assert summarize(found['a'], 1)['settled'] is False


def test_spread_covers_the_median_as_often_as_it_says():
  rng, hits = np.random.default_rng(0), 0
  for _ in range(400):
    values = rng.lognormal(0, 0.1, 40)
    hits += spread_of_median(values) / 2 > abs(np.median(values) - 1)
  assert spread_of_median([1.0, 1.0, 1.1]) == pytest.approx(0.1)
  assert 0.85 < hits / 400 <= 1.0


def test_summary_by_hand():
  timing = Timing([2_000_000] * 9 + [12_000_000], [2e6] * 8)
  assert summarize(timing, threads=2) == {
    'threads': 2,
    'p50_ms': 2.0,
    'p90_ms': pytest.approx(3.0),
    'fps': 500.0,
    'frames': 10,
    'spread': 0.0,
    'settled': True,
  }


@pytest.mark.parametrize('bad', [{'nb_frames': 0}, {'threads': (0,)}, {'threads': ()}])
def test_settings_out_of_range_are_named(bad):
  with pytest.raises(ValueError, match='expected nb_frames >= 1'):
    measure_latency({}, **bad)
