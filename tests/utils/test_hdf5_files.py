"""HDF5 files are read by a process of their own before they are opened."""

import subprocess
import zipfile
from unittest import mock

import h5py
import numpy as np
import pytest

from secateurs.utils import hdf5_files
from secateurs.utils.errors import UserError
from secateurs.utils.hdf5_files import check_archived, check_hdf5


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


def referring(path, kind):
  """A file whose data are those of another one."""
  other = path.with_name('secret')
  other.write_bytes(np.arange(8, dtype='f4').tobytes())
  with h5py.File(path, 'w') as file:
    group = file.create_group('layer')
    if kind == 'link':
      group['a'] = h5py.ExternalLink(str(other), '/a')
    elif kind == 'data':
      group.create_dataset('a', (8,), 'f4', external=[(str(other), 0, 32)])
    else:
      layout = h5py.VirtualLayout((8,), 'f4')
      layout[:] = h5py.VirtualSource(str(other), 'a', (8,))
      group.create_virtual_dataset('a', layout)
    file['soft'] = h5py.SoftLink('/layer/a')


@pytest.mark.parametrize('kind', ['link', 'data', 'virtual'])
def test_data_of_other_files_are_refused(tmp_path, kind):
  """What a stranger's model would carry out of the machine, in whatever is made of it."""
  path, archive = tmp_path / 'model.weights.h5', tmp_path / 'm.keras'
  referring(path, kind)
  with pytest.raises(UserError, match=r"its entry 'a' (is|are) in (an)?other file"):
    check_hdf5(path)
  with zipfile.ZipFile(archive, 'w') as content:
    content.writestr('config.json', '{}')
    content.write(path, path.name)
  with pytest.raises(UserError, match=r"m\.keras takes data from elsewhere \(.*entry 'a'"):
    check_archived(archive)


def test_links_inside_of_a_file_pass(whole, tmp_path):
  with h5py.File(whole, 'a') as file:
    file['soft'] = h5py.SoftLink('/layer/a')
  check_hdf5(whole)
  archive = tmp_path / 'm.keras'
  with zipfile.ZipFile(archive, 'w') as content:
    content.write(whole, 'model.weights.h5')
  check_archived(archive)


def test_a_file_that_keeps_the_library_busy_is_refused(whole, monkeypatch):
  monkeypatch.setattr(hdf5_files, '_SECONDS', 1e-3)
  hdf5_files._problem.cache_clear()
  with pytest.raises(UserError, match=r'within 0 s: it is damaged'):
    check_hdf5(whole)
  hdf5_files._problem.cache_clear()


def test_the_time_for_a_file_follows_from_its_size(monkeypatch):
  run = mock.Mock(return_value=mock.Mock(returncode=0))
  monkeypatch.setattr(subprocess, 'run', run)
  for size in (0, 20_000_000, 2_000_000_000):
    assert hdf5_files._problem('none.h5', size, 0) is None
  assert [call.kwargs['timeout'] for call in run.call_args_list] == [20, 21, 120]
  hdf5_files._problem.cache_clear()
