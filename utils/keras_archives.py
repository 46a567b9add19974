"""Loads .keras files of tf_keras without reading their weights over and over."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import tf_keras as keras


def load_tf_keras(path: str | os.PathLike, *, with_training: bool = False) -> keras.Model:
  """A model of tf_keras from a file or folder, compiled as it was if `with_training` says so.

  Raises:
    Exception: of many types, if it cannot be loaded.
  """
  with _weights_in_memory():
    return keras.models.load_model(path, compile=with_training)


@contextlib.contextmanager
def _weights_in_memory() -> Iterator[None]:
  """Has HDF5 files in archives read at once.

  tf_keras gives h5py the open entry of the archive, and h5py reads here and there. In an entry each
  step back is a new beginning: loading a ResNet-50 read its 95 MB hundreds of times.
  """
  opened = zipfile.ZipFile.open

  def at_once(archive: zipfile.ZipFile, name: Any, mode: str = 'r', **options: Any) -> IO[bytes]:
    entry = opened(archive, name, mode, **options)
    if mode != 'r' or not getattr(name, 'filename', name).endswith('.h5'):
      return entry
    with entry:
      return io.BytesIO(entry.read())

  zipfile.ZipFile.open = at_once
  try:
    yield
  finally:
    zipfile.ZipFile.open = opened
