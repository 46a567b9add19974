"""The names of what repairs an integer file; see `repair`."""

from __future__ import annotations

from secateurs.utils.errors import UserError

AUTO, NOTHING = 'auto', 'none'
HOWS = ('percentile', 'mse')
STEPS = ('equalise', 'bias', *HOWS, 'rounding', 'int16', 'float')


def parsed_steps(text: str) -> list[str]:
  """Names of steps from a flag: auto, none, or names with commas between them.

  Raises:
    UserError: a name that is no step.
  """
  names = [one.strip() for one in text.split(',') if one.strip()]
  if names in ([AUTO], [NOTHING]):
    return [one for one in names if one != NOTHING]
  unknown = [one for one in names if one not in STEPS]
  if unknown or not names:
    raise UserError(
      f'--int8_repair takes {AUTO}, {NOTHING}, or some of {", ".join(STEPS)} with commas between '
      f'them, but {text!r} was given.'
    )
  return names
