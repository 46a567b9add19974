"""Small files that say they hold more than there is memory for, and other surprises in archives."""

import io
import json
import shutil
import struct
import zipfile
import zlib
from types import SimpleNamespace

import h5py
import keras as keras3
import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils import hdf5_files, memory
from secateurs.utils.deploy.packed.network import MAGIC, pack, unpack
from secateurs.utils.errors import UserError
from secateurs.utils.hdf5_files import check_hdf5
from secateurs.utils.model_files import load_model
from secateurs.utils.npz_files import read_npy, read_npz
from secateurs.utils.unpacking import check_model_archive, inflated

L = keras.layers


@pytest.fixture
def little(monkeypatch):
  """A machine with a megabyte of free memory."""
  monkeypatch.setattr(memory, 'free', lambda: 1 << 20)


def network():
  return keras.Sequential([keras.Input((4,)), L.Dense(2)])


def test_archives_that_unpack_to_more_than_memory_holds(tmp_path, little):
  np.savez_compressed(tmp_path / 'x.npz', a=np.zeros(1 << 20))
  with pytest.raises(UserError, match=r'x.npz holds 8 MB when it is unpacked, but 1 MB of memory'):
    read_npz(tmp_path / 'x.npz')
  network().save(tmp_path / 'm.keras')
  load_model(tmp_path / 'm.keras')
  with zipfile.ZipFile(tmp_path / 'm.keras', 'a', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('more', bytes(9 << 20))
  with pytest.raises(UserError, match='mine holds 9 MB when it is unpacked'):
    load_model(tmp_path / 'm.keras', 'mine')


def test_an_hdf5_file_of_zeros_that_are_not_there(tmp_path, little):
  with h5py.File(tmp_path / 'x.h5', 'w') as file:
    file.create_dataset('empty', data=h5py.Empty('f'))
    file.create_dataset('small', data=np.zeros(9))
  check_hdf5(tmp_path / 'x.h5')
  with h5py.File(tmp_path / 'x.h5', 'a') as file:
    file.create_dataset('huge', (1 << 40,), 'f4', chunks=(1 << 10,))
  hdf5_files._problem.cache_clear()
  with pytest.raises(UserError, match='it holds more data than fits into memory'):
    check_hdf5(tmp_path / 'x.h5')


def test_arrays_that_are_said_to_be_huge(tmp_path):
  head = io.BytesIO()
  form = {'descr': '<f8', 'fortran_order': False, 'shape': (1 << 50,)}
  np.lib.format.write_array_header_1_0(head, form)
  (tmp_path / 'x.npy').write_bytes(head.getvalue() + bytes(80))
  with pytest.raises(UserError, match='cannot be read as a NumPy array'):
    read_npy(tmp_path / 'x.npy')
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('a.npy', head.getvalue() + bytes(80))
  with pytest.raises(UserError, match='cannot be read as a NumPy archive'):
    read_npz(tmp_path / 'x.npz')


@pytest.mark.parametrize(
  'header',
  [
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,(}",  # tokenize raises its own type.
    "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,)}" % 10**30,  # An OverflowError.
    '(' * 5000,
  ],
)
def test_headers_of_arrays_that_are_damaged(tmp_path, header):
  head = b'\x93NUMPY\1\0' + struct.pack('<H', len(header) + 1) + header.encode() + b'\n'
  (tmp_path / 'x.npy').write_bytes(head + bytes(80))
  with pytest.raises(UserError, match='cannot be read as a NumPy array'):
    read_npy(tmp_path / 'x.npy')
  with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
    archive.writestr('a.npy', head + bytes(80))
  with pytest.raises(UserError, match='cannot be read as a NumPy archive'):
    read_npz(tmp_path / 'x.npz')


@pytest.mark.parametrize(
  'name', ['../evil', '{}/evil', 'assets/../../evil', 'evil', 'x/config.json']
)
def test_entries_that_no_model_has_are_refused(tmp_path, name):
  path = tmp_path / 'm.keras'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('config.json', '{}')
    check_model_archive(path)
    archive.writestr(name.format(tmp_path), 'x')
  with pytest.raises(UserError, match=r'm.keras holds the entry .*evil|x/config.json'):
    load_model(path)
  assert [file.name for file in tmp_path.rglob('*')] == ['m.keras']


def test_archives_that_are_unpacked_to_more_than_the_disk_holds(tmp_path, monkeypatch):
  path = tmp_path / 'm.keras'
  names = ('config.json', 'metadata.json', 'model.weights.h5', 'assets/', 'assets/words.txt')
  with zipfile.ZipFile(path, 'w') as archive:
    for name in names:
      archive.writestr(name, bytes(0 if name.endswith('/') else 1 << 20))
  check_model_archive(path)
  monkeypatch.setattr(shutil, 'disk_usage', lambda folder: SimpleNamespace(free=1 << 21))
  with pytest.raises(
    UserError, match=r'm.keras is unpacked to 4 MB in .*, but 2 MB are free there'
  ):
    check_model_archive(path)


def test_archives_whose_directory_is_damaged(tmp_path):
  network().save(tmp_path / 'm.keras')
  content = (tmp_path / 'm.keras').read_bytes()
  place = content.index(b'PK\1\2')
  for change in (b'PK\1\3', b'PK\1\2??\xff'):  # No directory, and that of a later version.
    broken = content[:place] + change + content[place + len(change) :]
    (tmp_path / 'm.keras').write_bytes(broken)
    with pytest.raises(UserError, match=r'm\.keras cannot be loaded as a Keras model'):
      load_model(tmp_path / 'm.keras')


@pytest.mark.parametrize('three', [False, True], ids=['tf_keras', 'keras'])
def test_layers_that_are_larger_than_memory(tmp_path, monkeypatch, three):
  """A config of a few bytes, of which the weights in the file are none."""
  if three:
    model = keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(2, name='d')])
  else:
    model = keras.Sequential([keras.Input((3, 4)), L.TimeDistributed(L.Dense(2, name='d'))])
  model.save(tmp_path / 'm.keras')
  assert load_model(tmp_path / 'm.keras').count_params() == 10
  with (
    zipfile.ZipFile(tmp_path / 'm.keras') as old,
    zipfile.ZipFile(tmp_path / 'huge.keras', 'w') as new,
  ):
    for name in old.namelist():
      new.writestr(name, old.read(name).replace(b'"units": 2,', b'"units": 1000000,'))
  monkeypatch.setattr(memory, 'free', lambda: 4 << 20)
  with pytest.raises(
    UserError, match=r'^huge holds 1[59] MB when it is unpacked, but 4 MB'
  ) as error:
    load_model(tmp_path / 'huge.keras', 'huge')
  assert '\n' not in str(error.value)


def changed(content, change):
  """A .dc file whose header is changed by hand, with the right sum."""
  size = struct.calcsize('<6sIQ')
  (length,) = struct.unpack('<I', content[size : size + 4])
  header = json.loads(zlib.decompress(content[size + 4 : size + 4 + length]))
  change(header)
  head = zlib.compress(json.dumps(header).encode())
  body = struct.pack('<I', len(head)) + head + content[size + 4 + length :]
  return struct.pack('<6sIQ', MAGIC, zlib.crc32(body), len(body)) + body


def test_packed_networks_of_strangers():
  content = pack(network(), {})
  assert len(unpack(changed(content, lambda header: None)).weights) == 2

  def huge(header):
    header['weights'][0]['shape'] = [1 << 30, 1 << 20]

  with pytest.raises(UserError, match=r'The file holds .* MB when it is unpacked'):
    unpack(changed(content, huge))

  for change in (
    {'shape': [-1], 'type': '|i1'},
    {'shape': ['4', 2]},
    {'shape': 4},
    {'type': '<U1000000'},
    {'type': 'nonsense'},
    {'bytes': 4, 'buckets': ['split', 0, 1]},
    {'bytes': 4, 'buckets': ['split', 256]},
    {'bytes': -4, 'buckets': ['layer', 256, 1]},
    {'bytes': 4, 'buckets': ['channel', 256, 9]},
    {'bytes': 4, 'buckets': ['split', 1 << 60, 1]},
  ):
    with pytest.raises(UserError, match='The file cannot be decoded'):
      unpack(changed(content, lambda header, change=change: header['weights'][0].update(change)))
  for key, value in (('weights', None), ('others', -1), ('others', 'x')):
    with pytest.raises(UserError, match='The file cannot be decoded'):
      unpack(changed(content, lambda header, key=key, value=value: header.update({key: value})))
  with pytest.raises(UserError, match='holds no network that tf_keras can build'):
    unpack(changed(content, lambda header: header.update(network=[]))).model()

  def runs_code(header):
    dense = header['network']['config']['layers'][1]['config']
    dense['activation'] = {'module': 'os', 'class_name': 'function', 'config': 'system'}

  with pytest.raises(UserError, match="names the function 'system' of module 'os'"):
    unpack(changed(content, runs_code))


def test_no_more_is_inflated_than_was_expected():
  data = zlib.compress(bytes(1000))
  assert inflated(data, 1000) == bytes(1000)
  with pytest.raises(ValueError, match='more than 999 bytes are in it'):
    inflated(data, 999)
  with pytest.raises(zlib.error, match='it is cut off'):
    inflated(data[:-6], 1000)
  with pytest.raises(ValueError, match='-1 is no number of bytes'):
    inflated(data, -1)
