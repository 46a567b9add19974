"""Lines of records where the disk does not take them."""

import dataclasses

import pytest

from secateurs.utils.errors import UserError
from secateurs.utils.json_lines import append_record, read_records


@dataclasses.dataclass
class Point:
  """A record."""

  x: int


def test_a_line_that_was_cut_off_is_written_again(tmp_path):
  path = tmp_path / 'points.jsonl'
  for x in range(3):
    append_record(path, Point(x))
  path.write_bytes(path.read_bytes()[:-4])  # As a full disk leaves it.
  assert read_records(path, Point) == [Point(0), Point(1)]
  append_record(path, Point(7))
  assert read_records(path, Point) == [Point(0), Point(1), Point(7)]


def test_a_line_that_is_nested_without_end(tmp_path):
  path = tmp_path / 'points.jsonl'
  append_record(path, Point(1))
  with path.open('a') as file:
    file.write('[' * 99_999 + '\n')
  assert read_records(path, Point) == [Point(1)]


def test_a_disk_that_does_not_take_a_line(tmp_path):
  with pytest.raises(
    UserError, match=r'Cannot write to the folder /dev \(No space left on device\)'
  ):
    append_record(tmp_path.joinpath('/dev/full'), Point(1))
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='Not a directory'):
    append_record(tmp_path / 'file' / 'points.jsonl', Point(1))
