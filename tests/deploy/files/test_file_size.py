"""Raw and gzipped sizes, and files that appear whole."""

import gzip
import os

import numpy as np
import pytest

from secateurs.utils.deploy.files.size import file_size
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path, require_writable


def test_gzip_bytes_are_those_of_gzip(tmp_path):
  data = np.random.default_rng(0).integers(0, 64, 1_500_000, np.uint8).tobytes()
  path = tmp_path / 'weights.bin'
  path.write_bytes(data)
  packed = gzip.compress(data, 9, mtime=0)
  assert file_size(path).bytes == len(data)
  assert file_size(path).gzip_bytes == len(packed)


def test_folders_whose_names_are_no_utf8_are_refused(tmp_path):
  with pytest.raises(UserError, match='has a name in bytes that are no UTF-8'):
    require_writable(tmp_path / os.fsdecode(b'\xff'))
  assert not list(tmp_path.iterdir())


def test_gzip_bytes_depend_on_the_content_alone(tmp_path):
  sizes = set()
  for name, stamp in (('a', 0), ('a_much_longer_name', 2_000_000_000)):
    path = tmp_path / name
    path.write_bytes(b'secateurs' * 100)
    os.utime(path, (stamp, stamp))
    sizes.add(file_size(path).gzip_bytes)
  assert len(sizes) == 1


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
  path = tmp_path / 'report.json'
  path.write_text('earlier')

  def write_half():
    with atomic_path(path) as partial:
      partial.write_text('half')
      assert partial.suffix == '.json'
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write_half()
  assert path.read_text() == 'earlier'
  assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_folder_is_one_sentence(tmp_path):
  (tmp_path / 'file').write_text('in the way')
  with (
    pytest.raises(UserError, match='Cannot write to the folder'),
    atomic_path(tmp_path / 'file' / 'report.json') as partial,
  ):
    partial.write_text('whole')
