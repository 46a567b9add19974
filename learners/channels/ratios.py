"""Numbers of channels that follow from ratios, and lists of ratios in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from secateurs.learners.channels.units import Unit
from secateurs.utils.errors import UserError

_QUADRUPLE = 4


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


def read_ratios(path: str, units: Sequence[Unit], flag: str) -> list[float]:
  """Reads a list of ratios: one for each unit, in order.

  Numbers are separated by blanks, commas or new lines; # starts a comment.

  Args:
    path: of a text file.
    units: what the ratios are for.
    flag: that named the file, for messages.

  Raises:
    UserError: no such file, not a number, out of [0, 1], or another number of them than of units.
  """
  try:
    lines = Path(path).expanduser().read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f'--{flag} {path} cannot be read ({error}): a text file with one ratio for each layer was '
      'expected.'
    ) from error
  words = ' '.join(line.split('#')[0] for line in lines).replace(',', ' ').split()
  ratios = []
  for word in words:
    try:
      ratio = float(word)
    except ValueError:
      ratio = float('nan')
    if not 0 <= ratio <= 1:
      raise UserError(f'--{flag} {path} takes numbers in [0, 1], but it contains {word!r}.')
    ratios.append(ratio)
  if len(ratios) != len(units):
    names = ', '.join(unit.name for unit in units)
    raise UserError(
      f'--{flag} {path} holds {len(ratios)} ratios, but {len(units)} were expected, one '
      f'for the inputs of each of: {names}.'
    )
  return ratios
