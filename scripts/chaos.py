#!/usr/bin/env python3
"""Kills runs at random moments and compares what they end in with runs that nobody killed.

Usage: python scripts/chaos.py [--learners NAME ...] [--kills 20] [--ranks 2] [--out FILE.md]

Each learner or method compresses a small network on handwritten digits. One run is left alone. Others
are killed at random moments, export and report included (SIGKILL, SIGTERM and Ctrl-C in turn; with
--ranks 2 one of the two processes dies by SIGKILL), a few times each; after each kill the same command
is given again, at last to its end. Then the kept channels, all weights, the scores, and the bytes of
the .tflite files must be those of the run that was left alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
ENTRY = ROOT / 'nets' / 'lenet_at_digits_run.py'
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS_A_RUN = 4
TIME_LIMIT = 1800
# Runs of about a dozen seconds, with checkpoints on the way.
FLAGS = (
  '--nb_epochs_rat',
  '0.1',
  '--save_step',
  '7',
  '--bench_frames',
  '5',
  '--bench_threads',
  '1',
)


@dataclasses.dataclass(frozen=True)
class End:
  """What a run has ended in.

  Attributes:
    plan: kept channels, from plan.json.
    scores: of the original and the compressed network, from report.json.
    weights: of the exported .keras file.
    files: bytes of the .tflite files by name.
  """

  plan: Any
  scores: Any
  weights: list[np.ndarray]
  files: dict[str, bytes]


@dataclasses.dataclass
class Tally:
  """What happened to one learner.

  Attributes:
    name: of the learner or method.
    kills: moments at which a run was killed, as fractions of the time that one takes.
    by: kills by signal.
    faults: what differed, a sentence each.
  """

  name: str
  kills: list[float] = dataclasses.field(default_factory=list)
  by: Counter = dataclasses.field(default_factory=Counter)
  faults: list[str] = dataclasses.field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the learners asked for and prints the table; returns 1 if any end differed."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--learners', nargs='*', help='or methods; default: all learners')
  parser.add_argument('--kills', type=int, default=20, help='kills of each')
  parser.add_argument('--ranks', type=int, default=1, help='processes of each run, under Horovod')
  parser.add_argument('--seed', type=int, default=0, help='of the moments')
  parser.add_argument('--out', help='file for the table in Markdown')
  args = parser.parse_args(argv)
  tallies = []
  for name in args.learners or all_learners():
    tallies.append(tally(name, args.kills, args.ranks, random.Random(f'{args.seed} {name}')))
    print(row(tallies[-1]), *tallies[-1].faults, sep='\n', flush=True)
  text = table(tallies)
  print(text)
  if args.out:
    Path(args.out).write_text(text + '\n', encoding='utf-8')
  return int(any(one.faults for one in tallies))


def all_learners() -> list[str]:
  """Names of the learners that there are."""
  from secateurs.learners import learners

  return sorted(learners())


def tally(name: str, nb_kills: int, nb_ranks: int, rng: random.Random) -> Tally:
  """Kills runs of one learner until there were enough kills."""
  found = Tally(name)
  with tempfile.TemporaryDirectory() as folder:
    begun = time.monotonic()
    process = start(name, Path(folder, 'alone'), nb_ranks)
    output = process.communicate(timeout=TIME_LIMIT)[0]
    if process.returncode:
      found.faults.append(
        f'{name} ends with {process.returncode} when it is left alone: {output[-2000:]}'
      )
      return found
    seconds, expected = time.monotonic() - begun, end_of(Path(folder, 'alone'))
    number = 0
    while len(found.kills) < nb_kills and not found.faults:
      number += 1
      killed(found, Path(folder, f'killed{number}'), seconds, expected, nb_ranks, nb_kills, rng)
  return found


def killed(
  found: Tally,
  folder: Path,
  seconds: float,
  expected: End,
  nb_ranks: int,
  nb_kills: int,
  rng: random.Random,
) -> None:
  """Kills one run a few times, lets it end, and compares."""
  for _ in range(min(KILLS_A_RUN, nb_kills - len(found.kills))):
    moment = rng.random()
    how = signal.SIGKILL if nb_ranks > 1 else SIGNALS[len(found.kills) % len(SIGNALS)]
    process = start(found.name, folder, nb_ranks)
    try:
      process.communicate(timeout=moment * seconds)
      break  # It was at its end.
    except subprocess.TimeoutExpired:
      kill(process, how, nb_ranks)
      output = process.communicate(timeout=TIME_LIMIT)[0]
    found.kills.append(moment)
    found.by[how.name] += 1
    if 'Traceback' in output:
      found.faults.append(f'{how.name} at {moment:.2f} ends in a traceback: {output[-2000:]}')
  process = start(found.name, folder, nb_ranks)
  output = process.communicate(timeout=TIME_LIMIT)[0]
  if process.returncode:
    found.faults.append(f'The last command ends with {process.returncode}: {output[-2000:]}')
    return
  found.faults += differences(expected, end_of(folder))


def start(name: str, folder: Path, nb_ranks: int) -> subprocess.Popen:
  """Starts a run in a new process group."""
  command = [sys.executable, str(ENTRY), '--learner', name, '--run_dir', str(folder), *FLAGS]
  if nb_ranks > 1:
    horovodrun = Path(sys.executable).with_name('horovodrun')
    command = [str(horovodrun), '--gloo', '-np', str(nb_ranks), *command]
  return subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
    env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3'},
  )


def kill(process: subprocess.Popen, how: signal.Signals, nb_ranks: int) -> None:
  """Sends a signal to a run; of several processes the youngest gets it."""
  if nb_ranks == 1:
    process.send_signal(how)
    return
  mine = [
    int(entry.name)
    for entry in Path('/proc').iterdir()
    if entry.name.isdigit() and runs_entry(entry) and os.getsid(int(entry.name)) == process.pid
  ]
  os.kill(max(mine, default=process.pid), how)


def runs_entry(entry: Path) -> bool:
  """Whether a process is Python with the entry script, and not what started it."""
  try:
    words = (entry / 'cmdline').read_bytes().split(b'\0')
  except OSError:
    return False
  return len(words) > 1 and words[1] == str(ENTRY).encode()


def end_of(folder: Path) -> End:
  """Reads what a finished run has written."""
  import tf_keras as keras

  reports = list(folder.glob('logs/*/report.json'))
  # Beside the baseline's, if the learner trained one first.
  (report_file,) = [one for one in reports if len(reports) == 1 or one.parent.name != 'full-prec']
  report = json.loads(report_file.read_text(encoding='utf-8'))
  plan_file = report_file.with_name('plan.json')
  plan = json.loads(plan_file.read_text(encoding='utf-8')) if plan_file.exists() else None
  (keras_file,) = [
    path for path in folder.glob('models_*eval/*.keras') if 'original' not in path.name
  ]
  model = keras.models.load_model(keras_file, compile=False)
  files = {
    str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*.tflite'))
  }
  scores = [report[name]['score'] for name in ('original', 'compressed') if name in report]
  return End(plan, scores, model.get_weights(), files)


def differences(expected: End, found: End) -> list[str]:
  """Sentences about what differs, empty if nothing does."""
  told = []
  if expected.plan != found.plan:
    told.append('The plans differ.')
  if expected.scores != found.scores:
    told.append(f'The scores differ: {expected.scores}, after kills {found.scores}.')
  same = len(expected.weights) == len(found.weights) and all(
    np.array_equal(a, b) for a, b in zip(expected.weights, found.weights, strict=True)
  )
  if not same:
    told.append('The weights differ.')
  if expected.files.keys() != found.files.keys():
    told.append(f'The files differ: {sorted(expected.files)}, after kills {sorted(found.files)}.')
  told += [
    f'The bytes of {name} differ.'
    for name, content in expected.files.items()
    if found.files.get(name, content) != content
  ]
  return told


def row(one: Tally) -> str:
  """A line of the table."""
  by = ', '.join(f'{number} {name}' for name, number in sorted(one.by.items()))
  thirds = Counter(min(int(moment * 3), 2) for moment in one.kills)
  when = ', '.join(str(thirds[third]) for third in range(3))
  outcome = 'differs' if one.faults else 'the same'
  return f'| {one.name} | {len(one.kills)} | {by} | {when} | {outcome} |'


def table(tallies: Sequence[Tally]) -> str:
  """Markdown of all rows."""
  head = '| learner | kills | by | in the first, second, last third | end |\n|---|---|---|---|---|'
  return '\n'.join([head, *map(row, tallies)])


if __name__ == '__main__':
  sys.exit(main())
