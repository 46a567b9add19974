"""HDF5 files are read by a process of their own before they are opened."""

import h5py
import numpy as np
import pytest

from secateurs.utils import hdf5_files
from secateurs.utils.errors import UserError
from secateurs.utils.hdf5_files import check_hdf5


@pytest.fixture
def whole(tmp_path):
  path = tmp_path / 'whole.h5'
  with h5py.File(path, 'w') as file:
    group = file.create_group('layer')
    group.attrs['weight_names'] = ['a', 'b']
    group['a'] = np.arange(600.0)
    group.create_dataset('b', data=np.ones((30, 40)), chunks=(10, 10), compression='gzip')
    file['again'] = group  # A hard link: the same group under a second name.
    group['ring'] = file['layer']
  return path


def test_a_whole_file_passes(whole, tmp_path):
  check_hdf5(whole)
  check_hdf5(tmp_path / 'missing.h5')
  other = tmp_path / 'text.h5'
  other.write_text('no HDF5')
  check_hdf5(other)


def test_a_damaged_file_is_refused(whole, tmp_path):
  content = whole.read_bytes()
  short = tmp_path / 'short.h5'
  short.write_bytes(content[: len(content) // 2])
  with pytest.raises(UserError, match=r'short\.h5 cannot be read by the HDF5 library .*damaged'):
    check_hdf5(short)
  with pytest.raises(UserError, match='mine cannot be read'):
    check_hdf5(short, 'mine')


def test_a_file_that_keeps_the_library_busy_is_refused(whole, monkeypatch):
  monkeypatch.setattr(hdf5_files, '_SECONDS', 1e-3)
  hdf5_files._problem.cache_clear()
  with pytest.raises(UserError, match=r'within 0 s: it is damaged'):
    check_hdf5(whole)
  hdf5_files._problem.cache_clear()
