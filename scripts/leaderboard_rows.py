"""Rows of a leaderboard: each learner or method at each budget, with the flags that ask for it.

Usage: python scripts/leaderboard_rows.py [NAME ...] [--macs 0.5,0.25] [--zeros 0.75,0.9] [--bits 4]
  [--whole N] [--given "FLAGS"]

Without names all learners that compress; with `methods` all published methods. A line is the name, its
budget and its flags, separated by tabs. A budget of MACs is the fraction that stays, whatever decides
on widths; one of zeros the fraction of weights that go. A row that decides by itself how much goes is
there once, as `own`. `--whole` is the MACs of the network, which rows of joint-search need.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

from secateurs.learners import learners  # noqa: E402
from secateurs.learners.methods import METHODS, config_of, resolve  # noqa: E402
from secateurs.utils.errors import UserError  # noqa: E402

OWN = 'own'
_CHOOSE_BITS = ('uql_equivalent_bits', 'uql_target_bytes')


@dataclasses.dataclass(frozen=True)
class Row:
  """One method at one budget."""

  name: str
  budget: str
  flags: tuple[str, ...] = ()


def names_of(asked: Sequence[str]) -> list[str]:
  """The learners and methods that were asked for."""
  if list(asked) == ['methods']:
    return list(METHODS)
  return list(asked) or [name for name in learners() if name != 'full-prec']


def rows_of(
  name: str, budgets: Mapping[str, Sequence[float]], whole: int | None, given: Sequence[str]
) -> list[Row]:
  """A method's rows.

  Args:
    name: of a learner or a method.
    budgets: fractions that stay by `macs`, fractions that go by `zeros`, and `bits`.
    whole: MACs of the network; None if unknown.
    given: flags of the user, of which some choose by themselves.

  Raises:
    UserError: nothing has that name, or a row of joint-search has no network to take its MACs from.
  """
  learner, method = resolve(name)
  prefix = learner.Config.prefix
  config = learner.Config() if method is None else config_of(name)
  kind = _kind(learner.name, config)
  if kind == 'bits' and any(flag in word for flag in _CHOOSE_BITS for word in given):
    kind = OWN
  if kind == OWN:
    return [Row(name, OWN)]

  def flags(value: float) -> tuple[str, ...]:
    if kind == 'zeros':
      return f'--{prefix}prune_ratio', f'{value:g}'
    if kind == 'bits':
      return f'--{prefix}weight_bits', f'{value:g}'
    if learner.name == 'joint-search':
      if whole is None:
        raise UserError(f'{name} needs the MACs of the network: give --whole.')
      return '--js_max_macs', str(int(value * whole))
    # A learner by itself measures its layers; a method allocates as published.
    auto = (f'--{prefix}prune_option', 'auto') if method is None else ()
    return *auto, f'--{prefix}preserve_ratio', f'{value:g}'

  return [Row(name, f'{kind}{value:g}', flags(value)) for value in budgets[kind]]


def _kind(learner: str, config: object) -> str:
  """What a budget limits."""
  if learner == 'joint-search':
    return 'macs'
  if hasattr(config, 'preserve_ratio'):
    decides = getattr(config, 'epsilon', None) is not None or config.prune_option == 'zeros'
    return OWN if decides else 'macs'
  if learner == 'weight-sparse':
    return 'zeros' if config.m_by_n is None else OWN
  if getattr(config, 'prune_ratio', 0):
    return 'zeros'
  return 'bits' if hasattr(config, 'weight_bits') else OWN


def _numbers(text: str) -> list[float]:
  return [float(part) for part in text.replace(',', ' ').split()]


def main() -> None:
  """Prints the rows."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('names', nargs='*')
  parser.add_argument('--macs', type=_numbers, default=[0.5, 0.25])
  parser.add_argument('--zeros', type=_numbers, default=[0.75, 0.9])
  parser.add_argument('--bits', type=_numbers, default=[4])
  parser.add_argument('--whole', type=int)
  parser.add_argument('--given', default='')
  options = parser.parse_args()
  budgets = {'macs': options.macs, 'zeros': options.zeros, 'bits': options.bits}
  for name in names_of(options.names):
    try:
      for row in rows_of(name, budgets, options.whole, options.given.split()):
        print(row.name, row.budget, ' '.join(row.flags), sep='\t')
    except UserError as error:
      parser.exit(1, f'{error}\n')


if __name__ == '__main__':
  main()
