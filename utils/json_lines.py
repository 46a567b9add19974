"""Files that grow by a line: records as JSON, each with a sum over its text."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from secateurs.utils.files import atomic_path, explain_os_errors

_SUM = 'crc32'
Record = TypeVar('Record')


def append_record(path: Path, record: Any) -> None:
  """Adds a dataclass as a line, with the CRC-32 of the line without it.

  Raises:
    UserError: the folder cannot be written, or the disk is full.
  """
  with explain_os_errors(path.parent), path.open('a', encoding='utf-8') as file:
    file.write(_line(record))


def write_records(path: Path, records: Sequence[Any]) -> None:
  """Makes a file of these records alone; it is the old one or the new one, whatever happens."""
  with atomic_path(path) as partial:
    partial.write_text(''.join(map(_line, records)), encoding='utf-8')


def read_records(path: Path, kind: type[Record]) -> list[Record]:
  """The records of a file up to the first line that is damaged, which goes with all after it.

  Whoever wrote them makes them again, so that nothing is lost but time. A line without a sum, as of a
  file that was written by hand, only has to fit the dataclass. Empty where there is no such file.
  """
  if not path.is_file():
    return []
  content = path.read_bytes()
  adapter = pydantic.TypeAdapter(kind)
  found, good = [], 0
  for line in content.splitlines(keepends=True):
    record = _record(line, adapter)
    if record is None:
      break
    found.append(record)
    good += len(line)
  if good < len(content):
    with atomic_path(path) as partial:
      partial.write_bytes(content[:good])
  return found


def _line(record: Any) -> str:
  values = dataclasses.asdict(record)
  values[_SUM] = zlib.crc32(json.dumps(values).encode())
  return json.dumps(values) + '\n'


def _record(line: bytes, adapter: pydantic.TypeAdapter) -> Any:
  try:
    values = json.loads(line)
    if not line.endswith(b'\n') or not isinstance(values, dict):
      return None
    expected = values.pop(_SUM, None)
    if expected is not None and expected != zlib.crc32(json.dumps(values).encode()):
      return None
    return adapter.validate_python(values)
  except (ValueError, RecursionError):
    return None
