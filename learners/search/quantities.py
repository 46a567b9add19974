"""Sizes and times as people write them: 200kB, 3ms, 30m."""

from __future__ import annotations

import re

from secateurs.utils.errors import UserError

BYTES = {'': 1.0, 'B': 1.0, 'kB': 1e3, 'KB': 1e3, 'KiB': 1024.0, 'MB': 1e6, 'MiB': 2.0**20}
MILLISECONDS = {'': 1.0, 'us': 1e-3, 'ms': 1.0, 's': 1e3}
SECONDS = {'': 1.0, 's': 1.0, 'm': 60.0, 'min': 60.0, 'h': 3600.0}
COUNTS = {'': 1.0, 'k': 1e3, 'K': 1e3, 'M': 1e6, 'G': 1e9}
_FORM = re.compile(r'\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*')


def quantity(flag: str, text: str | None, units: dict[str, float]) -> float | None:
  """The number that a text stands for, in the smallest unit; None for none.

  Args:
    flag: name that messages give, without dashes.
    text: such as 200kB.
    units: factors by unit.

  Raises:
    UserError: it is no number with one of the units, or not above zero.
  """
  if text is None:
    return None
  match = _FORM.fullmatch(str(text))
  if match is None or match[2] not in units or float(match[1]) <= 0:
    known = [name for name in units if name]
    near = [name for name in known if match and name.lower() == match[2].lower()]
    hint = f': did you mean {match[1]}{near[0]}?' if near else '.'
    raise UserError(
      f'--{flag} takes a number above zero such as 20{known[0]}, in one of {", ".join(known)}, but '
      f'{text!r} was given{hint}'
    )
  return float(match[1]) * units[match[2]]
