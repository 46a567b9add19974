"""How quantities are written for people; '-' stands for what was not measured."""

import re

NOTHING = '-'


def fmt_bytes(value: float | None) -> str:
  """Bytes in decimal units: '987 B', '309.5 kB', '1.09 MB'."""
  if value is None:
    return NOTHING
  if value < 1e3:
    return f'{value:.0f} B'
  if value < 1e6:
    return f'{value / 1e3:.1f} kB'
  return f'{value / 1e6:.2f} MB'


def fmt_ms(value: float | None) -> str:
  """Milliseconds with two or three significant digits: '0.0036 ms', '0.423 ms', '12.3 ms'."""
  if value is None:
    return NOTHING
  digits = 4 if value < 0.00995 else 3 if value < 1 else 2 if value < 10 else 1
  return f'{value:.{digits}f} ms'


def fmt_fps(value: float | None) -> str:
  """Frames per second: '2,315', or '7.42' when few."""
  if value is None:
    return NOTHING
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def fmt_percent(value: float | None) -> str:
  """A fraction in percent with two decimals: '88.20 %'."""
  return NOTHING if value is None else f'{100 * value:.2f} %'


def fmt_count(value: float | None) -> str:
  """A whole count, exact: '272,474'."""
  return NOTHING if value is None else f'{value:,.0f}'


def fmt_macs(value: float | None) -> str:
  """Multiply-adds: '40.81 M', exact below a million."""
  if value is None:
    return NOTHING
  if value >= 1e9:
    return f'{value / 1e9:.3f} G'
  return f'{value / 1e6:.2f} M' if value >= 1e6 else f'{value:,.0f}'


def fmt_loss(value: float | None) -> str:
  """A loss with four decimals."""
  return NOTHING if value is None else f'{value:.4f}'


def fmt_metric(value: float | None) -> str:
  """A number of unknown unit with four significant digits."""
  return NOTHING if value is None else f'{value:.4g}'


def fmt_seconds(value: float | None) -> str:
  """Seconds as a clock: '4.2 s', '3 min 05 s', '2 h 07 min'."""
  if value is None:
    return NOTHING
  if value < 60:
    return f'{value:.1f} s'
  whole = round(value)
  if whole < 3600:
    return f'{whole // 60} min {whole % 60:02d} s'
  minutes = round(value / 60)
  return f'{minutes // 60} h {minutes % 60:02d} min'


def typeset(text: str) -> str:
  """Gives ratios and signs their typographic form: '0.27x' and '-0.31 pt', but not 'chn-pruned'."""
  text = re.sub(r'(?<=\d)x(?!\w)', '\N{MULTIPLICATION SIGN}', text)
  return re.sub(r'(?<![\w.])-(?=\d)', '\N{MINUS SIGN}', text)
