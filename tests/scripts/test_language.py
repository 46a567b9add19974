"""Spelling, and the project's word list, over all text."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ('docs', 'learners', 'nets', 'scripts', 'utils')
PAGES = [ROOT / name for name in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md')]
# What readers who are not native speakers stumble over -> what to write.
WORDS = {
  r'anew': 'again, re-estimated',
  r'(?:by|in) turns': 'interleaved, alternately',
  r'mend(?:s|ed)?': 'fix',
  r'spoilt': 'overwritten',
  r'heeded': 'obeyed',
  r'(?:is|are) told': 'is given, is printed',
  r'of its own': 'separate, its own',
  r'goes? on behind': 'continues from',
  r'behind (?:a|the|each|every) (?:layer|phase|training|convolution|compression)': 'after',
  r'(?:is|are) called so': 'has that name',
}


def texts():
  for room in ROOMS:
    for path in (ROOT / room).rglob('*'):
      if path.suffix in ('.md', '.py', '.sh', '.j2', '.flags') and 'package' not in path.parts:
        yield path
  yield from PAGES


def test_spelling():
  if shutil.which('codespell', path=str(Path(sys.executable).parent)) is None:
    pytest.skip('codespell is not installed')
  done = subprocess.run(
    [sys.executable, '-m', 'codespell_lib', *map(str, texts())],
    capture_output=True, text=True, check=False, cwd=ROOT,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout


def test_words_that_readers_stumble_over():
  pattern = re.compile(rf'\b(?:{"|".join(WORDS)})\b', re.IGNORECASE)
  found = [
    f'{path.relative_to(ROOT)}:{number}: {match[0]}'
    for path in texts()
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1)
    if (match := pattern.search(line))
  ]
  assert not found, '\n'.join(found)
