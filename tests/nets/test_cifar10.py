import hashlib
import io
import pickle
import pickletools
import tarfile
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from secateurs.nets.datasets import cifar10
from secateurs.nets.datasets.locate import read_path_conf
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.errors import UserError

NAMES = [f'data_batch_{i}' for i in range(1, 6)] + ['test_batch']


@pytest.fixture(scope='module')
def records():
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (10_000, 3072), np.uint8)
  return pixels, rng.integers(0, 10, 10_000, np.uint8)


@pytest.fixture
def binary(tmp_path, records):
  folder = tmp_path / 'cifar-10-batches-bin'
  folder.mkdir()
  content = np.concatenate([records[1][:, None], records[0]], 1)
  for name in NAMES:
    content.tofile(folder / f'{name}.bin')
  return tmp_path


def load(folder, **options):
  return cifar10.load(DataConfig(data_dir_local=str(folder), **options))


def test_both_layouts_give_the_same_images(tmp_path, binary, records):
  folder = tmp_path / 'py' / 'cifar-10-batches-py'
  folder.mkdir(parents=True)
  for number, name in enumerate(NAMES):
    batch = {b'data': records[0], b'labels': records[1].tolist()}
    (folder / name).write_bytes(pickle.dumps(batch, protocol=2 + number % 4))
  one, other = load(binary), load(tmp_path / 'py')
  for split in ('train', 'eval'):
    np.testing.assert_array_equal(one.splits[split].images, other.splits[split].images)
    np.testing.assert_array_equal(one.splits[split].labels, other.splits[split].labels)
  assert one.nb_samples('train') == 50_000
  # Red comes first in a record, and rows before columns.
  image = one.splits['eval'].images[3]
  assert image[2, 5, 0] == records[0][3, 2 * 32 + 5]
  assert image[2, 5, 1] == records[0][3, 1024 + 2 * 32 + 5]


def test_a_truncated_file(binary):
  path = binary / 'cifar-10-batches-bin' / 'data_batch_3.bin'
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(UserError, match=r'data_batch_3.bin has 30729999 bytes, but 30730000'):
    load(binary)


def test_a_label_beyond_nine(binary):
  path = binary / 'cifar-10-batches-bin' / 'test_batch.bin'
  content = bytearray(path.read_bytes())
  content[3073 * 7] = 10
  path.write_bytes(content)
  with pytest.raises(UserError, match=r'test_batch.bin has label 10 at record 7'):
    load(binary)


def test_a_missing_file(binary):
  (binary / 'cifar-10-batches-bin' / 'data_batch_2.bin').unlink()
  with pytest.raises(UserError, match=r'data_batch_2.bin is missing'):
    load(binary)


def test_a_pickle_of_python_2():
  """As in the official archive: strings of bytes, and an array that is built in two steps."""
  content = (
    b'\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R('
    b'K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff'
    b'J\xff\xff\xff\xffK\x00tb\x89U\x06abcdeftbU\x06labels](K\x03K\x01eu.'
  )
  pickletools.dis(content, out=io.StringIO())  # It is well formed.
  found = cifar10._PlainUnpickler(io.BytesIO(content), encoding='bytes').load()
  np.testing.assert_array_equal(found[b'data'], [[97, 98, 99], [100, 101, 102]])
  assert found[b'labels'] == [3, 1]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'cbuiltins\nprint\n(Vran\ntR.', 'asks for builtins.print'),
    (b'cnumpy.testing\nmeasure\n(Vprint("ran")\ntR.', 'asks for numpy.testing.measure'),
    (b'ccopyreg\n_reconstructor\n.', 'asks for copyreg._reconstructor'),
    (b'cnumpy\nndarray\n(}Vx\nK\x01sb.', 'damaged'),  # AttributeError.
    (b'\x95\xff', 'damaged'),
  ],
)
def test_pickles_that_run_code_or_are_damaged_are_refused(tmp_path, content, message, capsys):
  folder = tmp_path / 'cifar-10-batches-py'
  folder.mkdir()
  for name in NAMES:
    (folder / name).write_bytes(content)
  with pytest.raises(UserError, match=message):
    load(tmp_path)
  assert 'ran' not in capsys.readouterr().out


@pytest.mark.parametrize(
  ('kind', 'label'), [('f4', 3), ('i2', 3), ('u1', 3.7), ('u1', float('nan'))]
)
def test_pickles_of_other_numbers_are_refused(tmp_path, monkeypatch, kind, label):
  """Which would be cut down to bytes and whole numbers in silence."""
  monkeypatch.setattr(cifar10, '_NB_PER_FILE', 2)
  batch = {b'data': np.full((2, 3072), 300, kind) if kind != 'u1' else np.zeros((2, 3072), 'u1')}
  for name in NAMES:
    (tmp_path / name).write_bytes(pickle.dumps({**batch, b'labels': [label] * 2}, protocol=2))
  with pytest.raises(
    UserError, match=r'data_batch_1 cannot be read .*\(its pixels are .*, its labels'
  ):
    load(tmp_path)


def test_no_data_where_it_was_named(tmp_path):
  with pytest.raises(UserError, match='which does not contain CIFAR-10'):
    load(tmp_path)
  with pytest.raises(UserError, match=r'--data_dir_local names .*none, which is not a folder'):
    load(tmp_path / 'none')


def test_named_by_environment_and_path_conf(binary, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('SECATEURS_DATA', str(binary))
  assert cifar10.load(DataConfig(nb_smpls_train=5)).nb_samples('train') == 5
  (tmp_path / 'path.conf').write_text('# data\ndata_dir_local_cifar10 = /nowhere  # wrong\n')
  with pytest.raises(UserError, match=r'data_dir_local_cifar10 in path.conf names /nowhere'):
    cifar10.load(DataConfig())


def test_path_conf(tmp_path):
  path = tmp_path / 'path.conf'
  path.write_text('# comment\n\na = /x y \nb = None\n')
  assert read_path_conf(path) == {'a': '/x y'}
  path.write_text('a: /x\n')
  with pytest.raises(UserError, match='line 1'):
    read_path_conf(path)


@pytest.fixture
def nothing_named(monkeypatch, tmp_path):
  """Nothing says where CIFAR-10 lies; the cache is tmp_path."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('SECATEURS_DATA', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


@pytest.mark.usefixtures('nothing_named')
def test_no_network(monkeypatch):
  def unreachable(*args, **kwargs):
    raise urllib.error.URLError('no network')

  monkeypatch.setattr('urllib.request.urlopen', unreachable)
  with pytest.raises(UserError, match=r'connect to the network, or .*--data_dir_local'):
    cifar10.load(DataConfig())


@pytest.mark.usefixtures('nothing_named')
def test_a_wrong_download_is_refused(monkeypatch):
  monkeypatch.setattr('urllib.request.urlopen', lambda *a, **k: io.BytesIO(b'something else'))
  with pytest.raises(UserError, match='MD5'):
    cifar10.load(DataConfig())


@pytest.mark.usefixtures('nothing_named')
def test_a_download_takes_the_place_of_an_incomplete_one(monkeypatch, tmp_path):
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode='w:gz') as tar:
    tar.addfile(tarfile.TarInfo('cifar-10-batches-bin/test_batch.bin'))
  archive = packed.getvalue()
  monkeypatch.setattr(cifar10, 'MD5', hashlib.md5(archive).hexdigest())
  monkeypatch.setattr('urllib.request.urlopen', lambda *a, **k: io.BytesIO(archive))
  folder = tmp_path / 'secateurs' / 'cifar10' / 'cifar-10-batches-bin'
  folder.mkdir(parents=True)
  (folder / 'data_batch_1.bin').write_bytes(b'')
  with pytest.raises(UserError, match=r'data_batch_1.bin is missing'):
    cifar10.load(DataConfig())
  assert [path.name for path in folder.iterdir()] == ['test_batch.bin']


def test_of_two_commands_one_downloads(monkeypatch, tmp_path):
  folder = tmp_path / 'secateurs' / 'cifar10'
  monkeypatch.setattr(cifar10, 'user_cache', lambda: folder.parent)
  calls = []

  def download(place):
    calls.append(place)
    time.sleep(0.2)
    (place / 'cifar-10-batches-bin').mkdir()
    (place / 'cifar-10-batches-bin' / 'test_batch.bin').write_bytes(b'')

  monkeypatch.setattr(cifar10, '_download', download)
  with ThreadPoolExecutor(2) as pool:
    assert set(pool.map(lambda _: cifar10._downloaded(), range(2))) == {folder}
  assert calls == [folder]


@pytest.mark.usefixtures('nothing_named')
def test_no_place_to_download_to(monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.raises(UserError, match=r'Cannot write to the folder .*file/secateurs/cifar10'):
    cifar10.load(DataConfig())
  monkeypatch.delenv('XDG_CACHE_HOME')

  def homeless():
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.setattr(Path, 'home', homeless)
  with pytest.raises(UserError, match='set XDG_CACHE_HOME to a writable folder'):
    cifar10.load(DataConfig())
