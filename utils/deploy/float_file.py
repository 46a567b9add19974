"""Which float .tflite file of a model is the smallest: for the report and the comparison alike."""

from collections.abc import Mapping
from typing import NamedTuple

PLAIN, SPARSE = '.tflite', '_sparse.tflite'


class FloatFile(NamedTuple):
  """A float file: how its name ends, and its bytes."""

  ending: str
  bytes: int


def smallest_float_file(block: Mapping) -> FloatFile | None:
  """Returns the smallest float file of a block, the plain one of two equal ones; None without any."""
  sizes = {
    PLAIN: block.get('tflite_bytes'),
    SPARSE: (block.get('sparse') or {}).get('bytes'),
  }
  found = [FloatFile(ending, size) for ending, size in sizes.items() if size is not None]
  return min(found, key=lambda file: file.bytes, default=None)
