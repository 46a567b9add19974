"""One row of the before/after table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from secateurs.utils.deploy.reports import units

SIZE_NOISE = 0.005
"""Sizes and counts that change by less are neither better nor worse."""

TIMING_NOISE = 0.05
"""The same for latencies."""

Format = Callable[[float | None], str]

Blocks = tuple[Mapping, Mapping, Mapping]
"""What is known of the original, the pruned and the compressed network."""


@dataclass(frozen=True)
class Row:
  """One quantity of the original, the pruned and the compressed model.

  Attributes:
    key: what it is, for programs, e.g. 'score', 'tflite_bytes' or 'latency/1/p50_ms'.
    label: the same for people.
    original, pruned, compressed: formatted values, '-' when not measured.
    change: compressed against original: '0.27x', or the difference, such as '-0.31 pt' or '-0.0123',
      for scores and the user's metrics; '-' without both values.
    delta: the number that `change` shows: compressed / original, or the difference.
    share: compressed / original when `change` is a ratio, else None.
    better: whether the change is an improvement; None when that is unknown, or within the noise.
    within_noise: whether the change is of a score or a latency, and too small to be a verdict.
    int8: whether the row is about the full-integer file.
  """

  key: str
  label: str
  original: str
  pruned: str
  compressed: str
  change: str = units.NOTHING
  delta: float | None = None
  share: float | None = None
  better: bool | None = None
  within_noise: bool = False
  int8: bool = False

  @property
  def is_empty(self) -> bool:
    """Whether nothing in the row was measured."""
    return {self.original, self.pruned, self.compressed} == {units.NOTHING}


def plain_row(
  key: str, label: str, show: Format, values: Sequence[float | None], prefix: str = ''
) -> Row:
  """A row without a change."""
  return Row(prefix + key, label, *map(show, values), int8=prefix == 'int8/')


def with_ratio(
  row: Row,
  values: Sequence[float | None],
  noise: float | None = SIZE_NOISE,
  more_is_better: bool = False,
) -> Row:
  """The row with compressed / original; better if that is off 1 by more than the noise, if known."""
  before, _, after = values
  if before is None or after is None or before <= 0:  # a ratio to a negative loss says nothing
    return row
  share = after / before
  better = None
  if noise is not None and abs(share - 1) >= noise:
    better = (share > 1) == more_is_better
  return replace(row, change=f'{share:.2f}x', delta=share, share=share, better=better)


def ratio_row(
  key: str,
  label: str,
  show: Format,
  blocks: Blocks,
  noise: float | None = SIZE_NOISE,
  prefix: str = '',
) -> Row:
  """The row of one key of the blocks, with compressed / original."""
  values = values_of(blocks, key)
  return with_ratio(plain_row(key, label, show, values, prefix), values, noise)


def values_of(blocks: Blocks, key: str) -> list[float | None]:
  """The values of one key; None where a block lacks it."""
  return [block.get(key) for block in blocks]


def start_of(prefix: str) -> str:
  """How a label begins: 'int8 ' for prefix 'int8/'."""
  return prefix.replace('/', ' ')
