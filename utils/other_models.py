"""Files that hold a model of another kind than Keras, told apart by their first bytes and names.

Without TensorFlow, so that a command line can say so at once.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from secateurs.utils.errors import UserError
from secateurs.utils.hdf5_files import SIGNATURE

_WANTED = 'give the Keras model that it was made from, saved as .keras or .h5'
_BY_SUFFIX = {
  '.onnx': 'an ONNX model',
  '.pb': 'a frozen graph of TensorFlow, whose weights are constants',
  '.pbtxt': 'a graph of TensorFlow as text',
  '.pt': 'a PyTorch model',
  '.pth': 'a PyTorch model',
  '.safetensors': 'weights alone',
  '.ckpt': 'a checkpoint, which holds weights alone',
  '.index': 'part of a checkpoint, which holds weights alone',
}


def refuse_others(path: str | os.PathLike, name: str | os.PathLike | None = None) -> None:
  """Checks that a file or folder may hold a Keras model.

  Args:
    path: where it lies; it exists.
    name: what messages call it, where it is a copy.

  Raises:
    UserError: it holds something else, which the sentence names.
  """
  kind = kind_of(Path(path))
  if kind is not None:
    raise UserError(f'{name or path} is {kind}, but a whole Keras model was expected: {_WANTED}.')


def kind_of(path: Path) -> str | None:
  """What a file or folder is that is no Keras model, for a sentence; None where it may be one."""
  if path.is_dir():
    if (path / 'saved_model.pb').is_file():
      trained = (path / 'keras_metadata.pb').is_file()
      return None if trained else 'a SavedModel folder without the layers of Keras'
    return 'a folder without a saved_model.pb'
  try:
    with path.open('rb') as file:
      start = file.read(512)
  except OSError:  # Whoever opens it says why.
    return None
  if start[4:8] == b'TFL3':
    return 'a TensorFlow Lite file, which cannot be trained'
  if start.startswith(SIGNATURE):
    return None
  if start.startswith(b'\x93NUMPY'):
    return 'a NumPy array'
  if zipfile.is_zipfile(path):
    return _kind_of_archive(path)
  if path.suffix.lower() in _BY_SUFFIX:
    return _BY_SUFFIX[path.suffix.lower()]
  if not start:
    return 'an empty file'
  return 'a text file' if _is_text(start) else None


def _kind_of_archive(path: Path) -> str | None:
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
  except Exception:  # Of many types, where its directory is damaged: whoever opens it says so.
    return None
  if any(name.endswith('data.pkl') for name in names):
    return 'a PyTorch model'
  if names and all(name.endswith('.npy') for name in names):
    return 'a NumPy archive of arrays'
  return None


def _is_text(start: bytes) -> bool:
  try:
    start[: start.rfind(b'\n') + 1 or None].decode('utf-8')
  except UnicodeDecodeError:
    return False
  return b'\0' not in start
