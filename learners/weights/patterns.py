"""The flags of weight-sparse that say where zeros may lie."""

from __future__ import annotations

import re

from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.patterns import Blocks, MByN, OneByN, Pattern, Unstructured


def parse_pattern(block_size: str, m_by_n: str | None, kernels: str | None = None) -> Pattern:
  """The pattern that flags name.

  Args:
    block_size: such as 1x4; 1x1 is unstructured.
    m_by_n: such as 2,4, or None.
    kernels: such as 1x4, blocks of whole kernels, or kernel, single ones; or None.

  Raises:
    UserError: not of that form, or several are given.
  """
  found = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', block_size.strip())
  if not found:
    raise UserError(
      f'--ws_block_size takes <inputs>x<outputs>, such as 1x4, but {block_size!r} was given.'
    )
  rows, columns = map(int, found.groups())
  if kernels is not None:
    return _blocks_of_kernels(kernels, rows * columns > 1 or m_by_n is not None)
  if m_by_n is None:
    return Unstructured() if rows == columns == 1 else Blocks(rows, columns)
  pair = re.fullmatch(r'\s*(\d+)\s*,\s*(\d+)\s*', m_by_n)
  if not pair or not 0 < int(pair[1]) < int(pair[2]):
    raise UserError(
      '--ws_m_by_n takes how many of how many neighbours are zero, such as 2,4, but '
      f'{m_by_n!r} was given.'
    )
  if rows * columns != 1:
    raise UserError('--ws_block_size and --ws_m_by_n are two patterns: give only one of them.')
  return MByN(int(pair[1]), int(pair[2]))


def _blocks_of_kernels(kernels: str, another: bool) -> Pattern:
  if another:
    raise UserError('--ws_pattern sets where zeros lie: leave --ws_block_size and --ws_m_by_n out.')
  if kernels.strip() == 'kernel':
    return OneByN(1)
  found = re.fullmatch(r'1x([1-9]\d*)', kernels.strip())
  if not found or int(found[1]) < 2:
    raise UserError(
      f'--ws_pattern takes 1x<neighbouring outputs>, such as 1x4, or kernel, but {kernels!r} was given.'
    )
  return OneByN(int(found[1]))
