"""The operators of a .tflite file, and into how many pieces a delegate cuts it."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.runtime.interpreter import TFLiteModel

_DELEGATE = 'DELEGATE'


@dataclasses.dataclass(frozen=True)
class Operators:
  """What runs a file.

  Attributes:
    kinds: number of operators by kind, in the file.
    partitions: pieces that delegates (XNNPACK) run; what lies between them runs outside, and each
      border costs a copy.
  """

  kinds: dict[str, int]
  partitions: int


def operators_of(path: str | os.PathLike) -> Operators:
  """Counts the operators of a file, and the pieces that delegates take of it here.

  Raises:
    UserError: it is missing or no .tflite file.
  """
  names = TFLiteModel(Path(path)).operator_names()
  kinds = Counter(name for name in names if name != _DELEGATE)
  return Operators(dict(sorted(kinds.items())), names.count(_DELEGATE))


def partition_note(original: Mapping[str, Any], compressed: Mapping[str, Any]) -> str | None:
  """A sentence where a compressed model runs in more pieces than its original."""
  before, after = (block.get('delegate_partitions') for block in (original, compressed))
  if before is None or after is None or after <= before:
    return None
  kinds = [set(block.get('operators') or {}) for block in (original, compressed)]
  new = ', '.join(sorted(kinds[1] - kinds[0]))
  return (
    f'The compressed model runs in {after} delegate partitions, the original in {before}'
    f'{f" (new operators: {new})" if new else ""}: parts of a split of unequal sizes are a usual '
    'cause, and each border between partitions costs time.'
  )
