"""CIFAR-10, read in the official binary or python layout, or downloaded once from the official site."""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np

from secateurs.nets.datasets.images import ImageDataset
from secateurs.nets.datasets.locate import data_folder
from secateurs.nets.datasets.pixels import Augmentation
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.datasets.splits import Split, hold_out
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.files import explain_os_errors, user_cache
from secateurs.utils.training import distributed

CLASSES = (
  'airplane automobile bird cat deer dog frog horse ship truck'.split()  # noqa: SIM905
)
URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz'
MD5 = 'c32a1d4ab5d03f1284b67883e8d87530'
_SHAPE = (32, 32, 3)
_RECORD = 1 + 32 * 32 * 3
_NB_PER_FILE = 10_000
_BINARY = 'cifar-10-batches-bin'
_PYTHON = 'cifar-10-batches-py'
_BLOCK_BYTES = 1 << 20
# Everything that a pickle of arrays and strings refers to, in any version of Python and NumPy.
_PICKLED_WITH = {
  ('numpy', 'ndarray'),
  ('numpy', 'dtype'),
  *((f'numpy.{core}.multiarray', '_reconstruct') for core in ('core', '_core')),
  *((f'numpy.{core}.numeric', '_frombuffer') for core in ('core', '_core')),
  ('_codecs', 'encode'),
}


def load(config: DataConfig, preprocess: str = 'torch') -> ImageDataset:
  """Loads CIFAR-10: 50,000 training and 10,000 evaluation images.

  Args:
    config: folder and numbers of samples.
    preprocess: how pixels are normalised, see `pixels.normalize`.

  Raises:
    UserError: the named folder has no data, a file is damaged, or the download fails.
  """
  named = data_folder('cifar10', config.data_dir_local)
  if named is None:
    folder = distributed.first_on_host(_downloaded)
    folder, read = _find(folder) or _not_found(folder, 'the download cache')
  else:
    folder, read = _find(named[0]) or _not_found(*named)
  train = _concatenate([read(folder, f'data_batch_{i}') for i in range(1, 6)])
  evaluation = read(folder, 'test_batch')
  names = ('train', 'val', 'eval')
  splits = dict(zip(names, hold_out(train, evaluation, config), strict=True))
  augmentation = Augmentation(pad=4, flip=True)
  return ImageDataset('cifar10', _SHAPE, CLASSES, splits, augmentation, preprocess=preprocess)


def _find(root: Path) -> tuple | None:
  """Returns the folder of the batches below `root`, and the function that reads one batch."""
  for base in (root, root / 'cifar10', root / 'cifar-10'):
    for folder in (base, base / _BINARY, base / _PYTHON):
      if (folder / 'test_batch.bin').is_file():
        return folder, _read_binary
      if (folder / 'test_batch').is_file():
        return folder, _read_python
  return None


def _not_found(folder: Path, source: str) -> tuple:
  raise UserError(
    f'{source} names {folder}, which does not contain CIFAR-10 ({_BINARY}/test_batch.bin or '
    f'{_PYTHON}/test_batch was expected): give the folder that contains it, or name no folder to '
    'download it.'
  )


def _read_binary(folder: Path, name: str) -> Split:
  path = folder / f'{name}.bin'
  _must_exist(path)
  raw = np.fromfile(path, np.uint8)
  if raw.size != _NB_PER_FILE * _RECORD:
    raise UserError(
      f'{path} has {raw.size} bytes, but {_NB_PER_FILE * _RECORD} were expected: it is damaged or '
      'incomplete, download it again.'
    )
  records = raw.reshape(_NB_PER_FILE, _RECORD)
  return _checked(path, records[:, 1:], records[:, 0])


def _read_python(folder: Path, name: str) -> Split:
  path = folder / name
  _must_exist(path)
  try:
    with path.open('rb') as file:
      content = _PlainUnpickler(file, encoding='bytes').load()
    pixels, labels = np.asarray(content[b'data']), np.asarray(content[b'labels'])
    if pixels.dtype != np.uint8 or labels.dtype.kind not in 'iu':
      raise TypeError(f'its pixels are {pixels.dtype}, its labels {labels.dtype}')
  except Exception as error:  # A damaged pickle can raise anything.
    raise UserError(
      f'{path} cannot be read as a CIFAR-10 batch ({first_line(error)}): it is damaged, '
      'download it again.'
    ) from error
  if pixels.shape != (_NB_PER_FILE, _RECORD - 1) or labels.shape != (_NB_PER_FILE,):
    raise UserError(
      f'{path} contains images of shape {pixels.shape}, but {(_NB_PER_FILE, _RECORD - 1)} was '
      'expected: it is damaged, download it again.'
    )
  return _checked(path, pixels, labels)


class _PlainUnpickler(pickle.Unpickler):
  """Loads arrays, lists and strings, and refuses anything that could run code."""

  def find_class(self, module: str, name: str) -> type:
    if (module, name) in _PICKLED_WITH:
      return super().find_class(module, name)
    raise pickle.UnpicklingError(f'it asks for {module}.{name}')


def _checked(path: Path, pixels: np.ndarray, labels: np.ndarray) -> Split:
  wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))
  if wrong.size:
    raise UserError(
      f'{path} has label {int(labels[wrong[0]])} at record {int(wrong[0])}, but 0 to 9 was '
      'expected: it is damaged or belongs to another data set, download it again.'
    )
  images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return Split(np.ascontiguousarray(images), labels.astype(np.int32))


def _concatenate(parts: list[Split]) -> Split:
  images, labels = ([getattr(p, key) for p in parts] for key in ('images', 'labels'))
  return Split(np.concatenate(images), np.concatenate(labels))


def _must_exist(path: Path) -> None:
  if not path.is_file():
    raise UserError(f'{path} is missing: CIFAR-10 has five training files and one test file.')


def _downloaded() -> Path:
  """Returns the cache folder, downloading the data set if it is not there."""
  folder = user_cache() / 'cifar10'
  if _is_whole(folder):
    return folder
  print(
    f'No folder of CIFAR-10 is set, downloading it once: {URL} (162 MiB) -> {folder}', flush=True
  )
  with explain_os_errors(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / '.lock'):
      if not _is_whole(folder):  # Another command may have downloaded it meanwhile.
        _download(folder)
  return folder


def _is_whole(folder: Path) -> bool:
  return (folder / _BINARY / 'test_batch.bin').is_file()


def _download(folder: Path) -> None:
  with tempfile.TemporaryDirectory(dir=folder) as work:
    archive = Path(work) / 'cifar-10-binary.tar.gz'
    with archive.open('wb') as target:
      target.writelines(_blocks())
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    if found != MD5:
      raise UserError(
        f'The download from {URL} has MD5 {found}, but {MD5} was expected: try again, or give the '
        'folder of an intact copy with --data_dir_local.'
      )
    with tarfile.open(archive) as tar:
      tar.extractall(work, filter='data')
    # Moved in one step, so that an aborted download never looks complete. os.replace needs an
    # empty target.
    shutil.rmtree(folder / _BINARY, ignore_errors=True)
    os.replace(Path(work) / _BINARY, folder / _BINARY)


def _blocks() -> Iterator[bytes]:
  """Yields the archive in pieces, so that an error here comes from the network, not from the disk."""
  try:
    with urllib.request.urlopen(URL, timeout=30) as source:
      while block := source.read(_BLOCK_BYTES):
        yield block
  except (OSError, http.client.HTTPException) as error:
    raise UserError(
      f'CIFAR-10 could not be downloaded from {URL} ({error}): connect to the network, or download '
      'it elsewhere and give its folder with --data_dir_local or in path.conf.'
    ) from error
