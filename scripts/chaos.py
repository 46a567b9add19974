#!/usr/bin/env python3
"""Kills runs at random moments and compares what they end in with runs that nobody killed.

Usage: python scripts/chaos.py [--learners NAME ...] [--kills 20] [--ranks 2] [--out FILE.md]

Each learner or method compresses a small network on handwritten digits. One run is left alone. Others
are killed at random moments (SIGKILL, SIGTERM and Ctrl-C in turn; with --ranks 2 one of the two
processes dies by SIGKILL), a few times each; after each kill the same command is given again, at last
to its end. Every second kill waits for the first exported file, and comes at a random moment of what
follows: export, timing, report. Then the kept channels, all weights, the scores, and the bytes of the
.tflite and .dc files must be those of the run that was left alone.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
OWN_FLAGS = {
  'abc-pruner': (
    '--fp_abc_nb_sources=4',
    '--fp_abc_nb_cycles=4',
    '--fp_abc_nb_steps=5',
    '--nb_smpls_val=200',
  ),
  'amc': ('--cp_amc_nb_episodes=40', '--nb_smpls_val=200'),
  'joint-search': (
    '--js_nb_tries=2',
    '--js_nb_epochs_try=0.1',
    '--nb_epochs_ft=0.2',
    '--js_max_drop=0.5',
    '--nb_smpls_val=200',
  ),
}


@dataclasses.dataclass(frozen=True)
class End:
  """What a run has ended in.

  Attributes:
    plan: kept channels, from plan.json.
    scores: of the original and the compressed network, from report.json.
    weights: of the exported .keras file.
    files: bytes of the .tflite and .dc files by name.
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
    seconds: that a run takes, and those of them before it writes its first exported file.
    by: kills by signal.
    writing: kills after the first exported file.
    faults: what differed, a sentence each.
  """

  name: str
  seconds: tuple[float, float] = (0.0, 0.0)
  by: Counter = dataclasses.field(default_factory=Counter)
  writing: int = 0
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
  with tempfile.TemporaryDirectory() as work:
    alone, begun = Path(work, 'alone'), time.time()
    if code := start(name, alone, nb_ranks).wait(TIME_LIMIT):
      output = printed(alone).read_text()[-2000:]
      found.faults.append(f'{name} ends with {code} when it is left alone: {output}')
      return found
    first = min(path.stat().st_mtime for path in exported(alone))
    found.seconds = (time.time() - begun, first - begun)
    expected, number = end_of(alone), 0
    while found.by.total() < nb_kills and not found.faults:
      number += 1
      killed(found, Path(work, f'killed{number}'), expected, nb_ranks, nb_kills, rng)
  return found


def killed(
  found: Tally, folder: Path, expected: End, nb_ranks: int, nb_kills: int, rng: random.Random
) -> None:
  """Kills one run a few times, lets it end, and compares."""
  whole, before = found.seconds
  for _ in range(min(KILLS_A_RUN, nb_kills - found.by.total())):
    nb_before = found.by.total()
    how = signal.SIGKILL if nb_ranks > 1 else SIGNALS[nb_before % len(SIGNALS)]
    begun = time.time()
    process = start(found.name, folder, nb_ranks)
    if nb_before % 2:
      alive = wait(process, 5 * whole, until=lambda: any(newer(exported(folder), begun)))  # noqa: B023
      alive = alive and wait(process, rng.random() * (whole - before))
    else:
      alive = wait(process, rng.random() * before)
    if not alive:
      break  # It was at its end.
    found.writing += any(newer(exported(folder), begun))
    kill(process, how, nb_ranks)
    process.wait(TIME_LIMIT)
    found.by[how.name] += 1
    output = printed(folder).read_text()
    if 'Traceback' in output:
      found.faults.append(f'{how.name} ends in a traceback: {output[-2000:]}')
  if code := start(found.name, folder, nb_ranks).wait(TIME_LIMIT):
    output = printed(folder).read_text()
    found.faults.append(f'The last command ends with {code}: {output[-2000:]}')
    return
  found.faults += differences(expected, end_of(folder))


def wait(
  process: subprocess.Popen, seconds: float, until: Callable[[], bool] = lambda: False
) -> bool:
  """Waits for a moment; returns whether the run still works."""
  last = time.monotonic() + seconds
  while time.monotonic() < last and not until():
    if process.poll() is not None:
      return False
    time.sleep(0.02)
  return process.poll() is None


def start(name: str, folder: Path, nb_ranks: int) -> subprocess.Popen:
  """Starts a run in a new process group; what it prints goes to a file beside its folder."""
  words = ['--learner', name, '--run_dir', str(folder), *FLAGS, *OWN_FLAGS.get(name, ())]
  command = [sys.executable, str(ENTRY), *words]
  if nb_ranks > 1:
    horovodrun = Path(sys.executable).with_name('horovodrun')
    command = [str(horovodrun), '--gloo', '-np', str(nb_ranks), 'env', '--', *command]
  with printed(folder).open('w') as output:
    return subprocess.Popen(
      command,
      stdout=output,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3'},
    )


def printed(folder: Path) -> Path:
  """Where the output of the last command for a folder is."""
  return folder.with_suffix('.txt')


def exported(folder: Path) -> list[Path]:
  """The files that a run has exported or is about to; a baseline that a learner trains exports none."""
  return [path for path in folder.glob('models*_eval/*') if path.name != '.lock']


def newer(paths: Iterable[Path], since: float) -> Iterator[bool]:
  """Whether each of some files, which may vanish, has changed since then."""
  for path in paths:
    with contextlib.suppress(FileNotFoundError):
      yield path.stat().st_mtime > since


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
  paths = [path for ending in ('tflite', 'dc') for path in sorted(folder.rglob(f'*.{ending}'))]
  files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
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
  outcome = 'differs' if one.faults else 'the same'
  return f'| {one.name} | {one.by.total()} | {by} | {one.writing} | {outcome} |'


def table(tallies: Sequence[Tally]) -> str:
  """Markdown of all rows."""
  head = (
    '| learner | kills | by | while files or the report were written | end |\n|---|---|---|---|---|'
  )
  return '\n'.join([head, *map(row, tallies)])


if __name__ == '__main__':
  sys.exit(main())
