import time

import pytest

from secateurs.learners.run import phase_times
from secateurs.learners.run.phase_times import OTHER, PhaseTimes
from secateurs.utils.training import tally


@pytest.fixture
def clock(monkeypatch):
  """A clock that moves when told to."""
  now = [100.0]
  monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
  monkeypatch.setattr(time, 'time', lambda: 1000.0 + now[0])
  return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_phases_and_the_rest_add_up_to_the_wall_clock(clock):
  assert phase_times.time is time
  entries = {}
  times = PhaseTimes(entries, began=1000.0 + 98.0)  # Two seconds before, as for loading libraries.
  with times.running('select'):
    clock(3)
    with times.running('inner training'):
      clock(4)
    clock(1)
  clock(5)
  with times.running('finetune'), times.running('finetune'):
    clock(6)
  times.read()
  seconds = {name: entry.seconds for name, entry in entries.items()}
  assert seconds == {'select': 8, 'inner training': 4, 'finetune': 6, OTHER: 7}


def test_a_later_process_counts_on(clock):
  entries = {}
  first = PhaseTimes(entries, began=1100.0)
  with first.running('finetune'):
    clock(2)
  clock(1)
  first.read()
  clock(50)  # Between two processes.
  second = PhaseTimes(entries, began=1153.0)
  with second.running('finetune'):
    clock(4)
  second.read()
  assert (entries['finetune'].seconds, entries[OTHER].seconds) == (6, 1)


def test_images_belong_to_the_phase_that_runs_and_are_counted_on(clock):
  entries = {}
  tally.scored(5)  # Before any phase, as by another run of this process.
  first = PhaseTimes(entries, began=1100.0)
  with first.running('prune'):
    tally.scored(100)
    with first.running('round1'):
      tally.trained(64)
      first.read()  # A checkpoint.
    tally.trained(64)
  tally.scored(1000)  # A final evaluation is of no phase.
  second = PhaseTimes(entries, began=1100.0)
  with second.running('prune'):
    tally.scored(10)
  with second.running('finetune'), second.running('finetune'):
    tally.trained(640)
  found = {name: (one.images_trained, one.images_scored) for name, one in entries.items()}
  assert found == {'prune': (128, 110), 'round1': (0, 0), 'finetune': (640, 0), OTHER: (0, 0)}
