"""Numbers of channels that follow from ratios, and lists of ratios in files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.errors import UserError

_QUADRUPLE = 4
_MOST_DIGITS = 5
_REPEATED = re.compile(r'\[([^\[\]]*)\]\s*(?:\*\s*(\d+))?')


def nb_kept(size: int, ratio: float, quadruple: bool) -> int:
  """Channels that stay of `size` at a preserve ratio: at least one; multiples of four if asked."""
  kept = max(int(np.floor(ratio * size + 0.5)), 1)
  if quadruple:
    kept = -(-kept // _QUADRUPLE) * _QUADRUPLE
  return min(kept, size)


def nb_left(size: int, ratio: float, quadruple: bool = False) -> int:
  """Channels that stay of `size` when a fraction in [0, 1] goes: c - floor(ratio * c), at least one.

  With `quadruple` rounded up to a multiple of four, at most `size`.
  """
  left = max(size - int(np.floor(ratio * size + 1e-9)), 1)
  if quadruple:
    left = min(-(-left // _QUADRUPLE) * _QUADRUPLE, size)
  return left


def read_ratios(path: str, units: Sequence[Unit], flag: str, of: str = 'inputs') -> list[float]:
  """Reads a list of ratios: one for each unit, in order.

  Args:
    path: of a text file, see `read_numbers`.
    units: what the ratios are for.
    flag: that named the file, for messages.
    of: what of a layer is pruned, for messages.

  Raises:
    UserError: as `read_numbers`, or another number of them than of units.
  """
  ratios = read_numbers(path, flag)
  if len(ratios) != len(units):
    names = ', '.join(f'{unit.name} ({unit.size})' for unit in units)
    raise UserError(
      f'--{flag} {path} holds {len(ratios)} ratios, but {len(units)} were expected, one '
      f'for the {of} of each of (channels): {names}.'
    )
  return ratios


def read_numbers(path: str, flag: str) -> list[float]:
  """Reads numbers in [0, 1] from a text file.

  They are separated by blanks, commas or new lines, or written as the lists of HRank are:
  `[0.0]+[0.24]*3+[0.7]*7`; # starts a comment.

  Args:
    path: of a text file.
    flag: that named the file, for messages.

  Raises:
    UserError: no such file, not a number, or out of [0, 1].
  """
  try:
    lines = Path(path).expanduser().read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f'--{flag} {path} cannot be read ({error}): a text file with one ratio for each layer was '
      'expected.'
    ) from error
  ratios = []
  for word in _words(' '.join(line.split('#')[0] for line in lines)):
    try:
      ratio = float(word)
    except ValueError:
      ratio = float('nan')
    if not 0 <= ratio <= 1:
      raise UserError(f'--{flag} {path} takes numbers in [0, 1], but it contains {word!r}.')
    ratios.append(ratio)
  return ratios


def _words(text: str) -> list[str]:
  """The numbers of a text as they are written, sums of repeated lists written out."""
  if '[' not in text:
    return text.replace(',', ' ').split()
  words = []
  for part in text.split('+'):
    match = _REPEATED.fullmatch(part.strip())
    if match is None:
      words.append(part.strip())
    else:
      times = int((match[2] or '1')[:_MOST_DIGITS])  # More than any network has layers.
      words += match[1].replace(',', ' ').split() * times
  return words
