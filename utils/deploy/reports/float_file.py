"""Which file of a model is the one to deploy: for the report and the comparison alike."""

from collections.abc import Mapping
from typing import NamedTuple

PLAIN, SPARSE = '.tflite', '_sparse.tflite'
QUANT, PACKED, INT8 = '_quant.tflite', '.dc', '_int8.tflite'


class FloatFile(NamedTuple):
  """A file: how its name ends, and its bytes."""

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


def deployed_file(block: Mapping) -> FloatFile | None:
  """The file that was asked for: packed or with few bits where there is one, else as above.

  Also the full-integer one, where that was searched for.
  """
  integers = (('int8', INT8),) if block.get('deployed') == 'int8' else ()
  for key, ending in (*integers, ('packed', PACKED), ('quant', QUANT)):
    size = (block.get(key) or {}).get('bytes')
    if size is not None:
      return FloatFile(ending, size)
  return smallest_float_file(block)


def deployed_block(block: Mapping) -> dict:
  """A block with the score, the gzipped size and the latency of the file that is deployed."""
  quant = block.get(block.get('deployed', 'quant')) or {}
  taken = {key: quant[key] for key in ('score', 'latency') if quant.get(key) is not None}
  if quant.get('gzip_bytes') is not None:
    taken['tflite_gzip_bytes'] = quant['gzip_bytes']
  return {**block, **taken}
