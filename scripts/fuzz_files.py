#!/usr/bin/env python3
"""Damages files of every kind that the project reads, and sees what becomes of them.

Usage: python scripts/fuzz_files.py [--kinds npz,keras] [--cases 2000] [--seed 0] [--out FILE.md]

A file is cut off, gets bytes of zero, single flipped bits, or bytes from elsewhere in it. A reader may
then refuse it in a sentence (UserError), or give what it gave before. Formats with a sum must never
give anything else; text without one may, as long as it is still of the form that is expected. Any other
error is a fault; its seed is printed, so that `--seed N --cases 1` brings it back.
"""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_kinds import Kind, kinds

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()


@dataclasses.dataclass
class Found:
  """What became of the cases of one kind.

  Attributes:
    counts: cases by outcome: refused, same, other (read, and not as before), fault.
    faults: seed and last line of the traceback of each fault.
  """

  counts: Counter = dataclasses.field(default_factory=Counter)
  faults: list[tuple[int, str]] = dataclasses.field(default_factory=list)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
  """Damages bytes in one way or two."""
  for _ in range(rng.integers(1, 3)):
    if not content:
      break
    values = np.frombuffer(content, np.uint8).copy()
    size = len(values)
    way = rng.integers(5)
    if way == 0:
      content = content[: rng.integers(size)]
      continue
    start = int(rng.integers(size))
    stop = min(start + int(rng.integers(1, max(size // 4, 2))), size)
    if way == 1:
      values[start:stop] = 0
    elif way == 2:
      for place in rng.integers(size, size=rng.integers(1, 9)):
        values[place] ^= 1 << rng.integers(8)
    elif way == 3:
      source = rng.permutation(size)[: stop - start]
      values[start:stop] = values[source]
    else:
      values[start:stop] = rng.integers(256, size=stop - start)
    content = values.tobytes()
  return content


def fuzz(kind: Kind, cases: Sequence[int]) -> Found:
  """Reads a damaged file for each seed."""
  found = Found()
  with tempfile.TemporaryDirectory() as folder:
    path = kind.make(Path(folder))
    content = path.read_bytes()
    expected = comparable(kind.read(path))
    for start in range(0, len(cases), kind.together):
      seeds = cases[start : start + kind.together]
      broken = [damaged(content, np.random.default_rng(seed)) for seed in seeds]
      for seed, value in zip(seeds, kind.read_all(path, broken), strict=True):
        outcome, note = judged(value, expected, kind)
        found.counts[outcome] += 1
        if outcome == 'fault':
          found.faults.append((seed, note))
  return found


def judged(value: Any, expected: bytes, kind: Kind) -> tuple[str, str]:
  """What has become of a case, and a note.

  Args:
    value: what was read, or the exception that it has ended in.
    expected: what the file that is not damaged holds, as of `comparable`.
    kind: of the file.
  """
  from secateurs.utils.errors import UserError

  if isinstance(value, (UserError, *kind.refusals)):
    if '\n' in str(value).strip():
      return 'fault', f'a message of several lines: {str(value)[:200]!r}'
    return 'refused', ''
  if isinstance(value, Exception):
    return 'fault', traceback.format_exception_only(value)[-1].strip()[:200]
  if comparable(value) == expected:
    return 'same', ''
  return ('fault', 'damaged values were read') if kind.sums else ('other', '')


def comparable(value: Any) -> bytes:
  """Equal for equal values: arrays, models, dataclasses."""
  if hasattr(value, 'get_weights'):
    value = value.get_weights()
  return pickle.dumps(_plain(value))


def _plain(value: Any) -> Any:
  if isinstance(value, np.ndarray):
    return (str(value.dtype), value.shape, value.tobytes())
  if isinstance(value, dict):
    return [(str(key), _plain(one)) for key, one in value.items()]
  if isinstance(value, (list, tuple)):
    return [_plain(one) for one in value]
  if dataclasses.is_dataclass(value):
    return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
  return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def table(found: dict[str, Found]) -> str:
  """Markdown: outcomes by kind."""
  lines = [
    '| file | cases | refused | as before | other values | faults |',
    '|---|---|---|---|---|---|',
  ]
  for name, one in found.items():
    numbers = [one.counts[outcome] for outcome in ('refused', 'same', 'other', 'fault')]
    lines.append(f'| {name} | {sum(numbers)} | {" | ".join(map(str, numbers))} |')
  return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
  """Fuzzes the kinds asked for and prints the table; returns 1 if there was a fault."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kinds', help='with commas between them; default: all')
  parser.add_argument('--cases', type=int, default=2000, help='of each kind')
  parser.add_argument('--seed', type=int, default=0, help='of the first case')
  parser.add_argument('--out', help='file for the table in Markdown')
  args = parser.parse_args(argv)
  known, found = kinds(), {}
  for name in args.kinds.split(',') if args.kinds else known:
    found[name] = fuzz(known[name], range(args.seed, args.seed + args.cases))
    for seed, note in found[name].faults[:10]:
      print(f'{name}, seed {seed}: {note}', flush=True)
  text = table(found)
  print(text)
  if args.out:
    Path(args.out).write_text(text + '\n', encoding='utf-8')
  return int(any(one.faults for one in found.values()))


if __name__ == '__main__':
  sys.exit(main())
