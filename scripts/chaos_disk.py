#!/usr/bin/env python3
"""Takes the disk away from runs, gives it back, and compares what they end in with one that had it.

Usage: python scripts/chaos_disk.py [--learners NAME ...] [--parts full,removed] [--times 3]

Each learner compresses a small network on handwritten digits, as in chaos.py. In the folder of a run
- the disk is full: its file system is made too small by a random part, and enlarged after the run has
  ended (this needs the right to mount, as root has it);
- the file system is read-only;
- the folder is removed at a random moment;
- a file is where a folder should be.
The command must end with a sentence and no traceback. When there is room, the same command must end in
what the undisturbed run has ended in: kept channels, weights, scores, bytes of the .tflite files.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import chaos

_ROOM = 64 << 20
PARTS = ('full', 'read-only', 'removed', 'occupied')
_FOLDERS = ('.', 'logs', 'models', 'models{}', 'models{}_eval')


@dataclasses.dataclass
class Found:
  """What happened to one learner.

  Attributes:
    name: of the learner or method.
    expected: what the undisturbed run has ended in.
    seconds: that it took.
    size: bytes of its folder.
    prefix: what its folders of models have after `models` in their names, such as _ws; or nothing.
    ends: runs by what was done to them.
    faults: what should not have happened, a sentence each.
  """

  name: str
  expected: chaos.End
  seconds: float
  size: int
  prefix: str
  ends: Counter = dataclasses.field(default_factory=Counter)
  faults: list[str] = dataclasses.field(default_factory=list)

  def ended(self, what: str, code: int, output: str, *, must_fail: bool = True) -> None:
    """Counts a disturbed run and sees how it has ended."""
    self.ends[what] += 1
    print(f'{what}: {["", *output.strip().splitlines()][-1]}', flush=True)
    if 'Traceback' in output or 'not a mistake of yours' in output:
      self.faults.append(f'{what}: no sentence: {output[-1500:]}')
    elif must_fail and not code:
      self.faults.append(f'{what}: the command ends well.')
    elif code and 'Error: ' not in output:
      self.faults.append(f'{what}: ends with {code} without a sentence: {output[-1500:]}')

  def finished(self, what: str, folder: Path) -> None:
    """Gives the command once more, and compares."""
    code, output = run(self.name, folder)
    if code:
      self.faults.append(f'{what}: the last command ends with {code}: {output[-1500:]}')
    else:
      told = chaos.differences(self.expected, chaos.end_of(folder))
      self.faults += [f'{what}: {sentence}' for sentence in told]


def run(name: str, folder: Path) -> tuple[int, str]:
  """Runs a command to its end: its exit code, and what it printed."""
  code = chaos.start(name, folder, 1).wait(chaos.TIME_LIMIT)
  return code, chaos.printed(folder).read_text(encoding='utf-8')


def undisturbed(name: str, folder: Path) -> Found:
  """A run that has its disk."""
  begun = time.monotonic()
  code, output = run(name, folder)
  assert not code, output
  size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
  return Found(name, chaos.end_of(folder), time.monotonic() - begun, size, prefix_of(folder))


def prefix_of(folder: Path) -> str:
  """What a run's folders of models have after `models` in their names, a baseline's apart."""
  name = max((path.name for path in folder.glob('models*_eval')), key=len)
  return name.removeprefix('models').removesuffix('_eval')


def folders_of(prefix: str) -> list[str]:
  """The folders that a run makes, each once."""
  return list(dict.fromkeys(name.format(prefix) for name in _FOLDERS))


@contextlib.contextmanager
def file_system(folder: Path, size: int) -> Iterator[None]:
  """A folder that is a separate file system, in memory."""
  folder.mkdir()
  subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder], check=True)
  try:
    yield
  finally:
    subprocess.run(['umount', '-l', folder], check=True)


def remount(folder: Path, options: str) -> None:
  """Changes a file system."""
  subprocess.run(['mount', '-o', f'remount,{options}', folder], check=True)


def full(found: Found, folder: Path, part: float) -> None:
  """A disk with room for a part of what the run writes."""
  with file_system(folder, _ROOM):
    remount(folder, f'size={max(int(part * found.size), 8192)}')
    found.ended(f'full at {part:.2f}', *run(found.name, folder), must_fail=part < 0.7)
    remount(folder, f'size={_ROOM}')
    found.finished(f'full at {part:.2f}', folder)


def read_only(found: Found, folder: Path) -> None:
  """A file system that may only be read."""
  with file_system(folder, _ROOM):
    remount(folder, 'ro')
    found.ended('read-only', *run(found.name, folder))
    remount(folder, 'rw')
    found.finished('read-only', folder)


def removed(found: Found, folder: Path, moment: float) -> None:
  """A folder that is removed while the run writes to it; the run may end well all the same."""
  process = chaos.start(found.name, folder, 1)
  if chaos.wait(process, moment * found.seconds):
    shutil.rmtree(folder, ignore_errors=True)
  code = process.wait(chaos.TIME_LIMIT)
  output = chaos.printed(folder).read_text(encoding='utf-8')
  found.ended(f'removed at {moment:.2f}', code, output, must_fail=False)
  found.finished(f'removed at {moment:.2f}', folder)


def occupied(found: Found, folder: Path, name: str) -> None:
  """A file where a folder should be."""
  place = folder / name
  place.parent.mkdir(parents=True, exist_ok=True)
  place.write_text('mine')
  found.ended(f'a file at {name}', *run(found.name, folder))
  if not place.is_file() or place.read_text() != 'mine':
    found.faults.append(f'a file at {name}: it is gone.')
  place.unlink(missing_ok=True)
  found.finished(f'a file at {name}', folder)


def disturb(name: str, parts: Sequence[str], times: int, rng: random.Random) -> Found:
  """Does some of it to one learner; prints what has happened as it happens."""
  with tempfile.TemporaryDirectory() as work:
    found = undisturbed(name, Path(work, 'alone'))
    for number in range(times if 'full' in parts else 0):
      full(found, Path(work, f'full{number}'), (number + rng.random()) / times)
    if 'read-only' in parts:
      read_only(found, Path(work, 'read_only'))
    for number in range(times if 'removed' in parts else 0):
      removed(found, Path(work, f'removed{number}'), (number + rng.random()) / times)
    for number, place in enumerate(folders_of(found.prefix) if 'occupied' in parts else ()):
      occupied(found, Path(work, f'occupied{number}'), place)
  return found


def row(found: Found) -> str:
  """A line of the table."""
  kinds = Counter(what.split(' ')[0] for what in found.ends)
  numbers = ' | '.join(str(kinds[kind]) for kind in ('full', 'read-only', 'removed', 'a'))
  return f'| {found.name} | {numbers} | {"differs" if found.faults else "the same"} |'


def main(argv: Sequence[str] | None = None) -> int:
  """Disturbs the learners asked for and prints the table; returns 1 if there was a fault."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--learners', nargs='*', help='or methods; default: all learners')
  parser.add_argument(
    '--parts', default=','.join(PARTS), help='with commas; full and read-only need root'
  )
  parser.add_argument(
    '--times', type=int, default=3, help='disks that are full, folders that are removed'
  )
  parser.add_argument('--seed', type=int, default=0, help='of the moments')
  parser.add_argument('--out', help='file for the table in Markdown')
  args = parser.parse_args(argv)
  rows, code = [], 0
  for name in args.learners or chaos.all_learners():
    found = disturb(name, args.parts.split(','), args.times, random.Random(f'{args.seed} {name}'))
    rows.append(row(found))
    print(rows[-1], *found.faults, sep='\n', flush=True)
    code |= bool(found.faults)
  head = '| learner | full | read-only | removed | a file in place of a folder | end |'
  text = '\n'.join([head, '|---|---|---|---|---|---|', *rows])
  print(text)
  if args.out:
    Path(args.out).write_text(text + '\n', encoding='utf-8')
  return code


if __name__ == '__main__':
  sys.exit(main())
