"""Opens a user's model file, or says in one sentence what it is instead."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.walk import require_functional


def load_model(path: str | os.PathLike) -> keras.Model:
  """Loads a functional or Sequential tf_keras model from .keras, .h5 or a SavedModel folder.

  Raises:
    UserError: if the file is missing, was written by Keras 3, needs a class that is not known
      here, holds only weights, or holds a model whose layers cannot be followed.
  """
  path = Path(path)
  if not path.exists():
    raise UserError(f'Model file {str(path)!r} does not exist.')
  version = keras_version(path)
  if version and version.split('.')[0] >= '3':
    raise UserError(
      f'Model file {str(path)!r} was written by Keras {version}, expected tf_keras (Keras 2):'
      ' build the model with `import tf_keras as keras`, load its weights and save it again.'
    )
  try:
    model = keras.models.load_model(path, compile=False)
  except Exception as error:
    text = str(error).strip().splitlines()
    reason = text[0] if text else type(error).__name__
    raise UserError(
      f'Model file {str(path)!r} does not load with tf_keras ({reason}): register its own classes'
      ' with keras.utils.register_keras_serializable and call slice_model from Python, or save the'
      ' whole model if it holds weights only.'
    ) from error
  return require_functional(model)


def keras_version(path: Path) -> str | None:
  """The Keras version that wrote a .keras or .h5 file, or None if it does not say."""
  if path.is_dir():
    return None
  if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      if 'metadata.json' in archive.namelist():
        return json.loads(archive.read('metadata.json')).get('keras_version')
    return None
  import h5py

  if not h5py.is_hdf5(path):
    return None
  with h5py.File(path, 'r') as file:
    version = file.attrs.get('keras_version')
  return version.decode() if isinstance(version, bytes) else version
