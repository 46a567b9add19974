"""Opens model files, or says in one sentence what they are instead."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.untrusted import refuse_code


def load_model(path: str | os.PathLike, name: str | os.PathLike | None = None) -> keras.Model:
  """Loads a whole tf_keras model for inference from .keras, .h5 or a SavedModel folder.

  Args:
    path: where it lies.
    name: what messages call it, where it is a copy.

  Raises:
    UserError: the file is missing, damaged or of Keras 3, needs a class that is not known here, would
      run code (found in its config before it is loaded), or holds weights only.
  """
  path, name = Path(path), name or path
  if not path.exists():
    raise UserError(f'{name} does not exist: give the path of a model file.')
  try:
    refuse_code(path, name)
    version = keras_version(path)
    if version is None or int(version.split('.')[0]) < 3:
      return keras.models.load_model(path, compile=False)
  except UserError:
    raise
  except (
    Exception
  ) as error:  # tf_keras, h5py and zipfile raise many types for what they cannot read.
    raise _explained(error, name) from error
  raise UserError(
    f'{name} was saved by Keras {version}, but a file of tf_keras (Keras 2) was expected: build the '
    'model with `import tf_keras as keras`, give it the weights and save it again.'
  )


def keras_version(path: Path) -> str | None:
  """The Keras version that wrote a .keras or .h5 file; None if it does not say.

  Raises:
    Exception: of many types, if the file is damaged.
  """
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
  with h5py.File(path) as file:
    version = file.attrs.get('keras_version')
  return version.decode() if isinstance(version, bytes) else version


def first_line(error: Exception) -> str:
  """The start of an error's text, to be put into a sentence."""
  lines = str(error).strip().splitlines()
  return lines[0][:200].rstrip('.') if lines else type(error).__name__


def _explained(error: Exception, name: str | os.PathLike) -> UserError:
  if 'No model config found' in str(error):
    return UserError(
      f'{name} holds weights alone, but a whole model was expected: save it with model.save, or give '
      'the file as --warm_start_path of a run of the same network.'
    )
  return UserError(
    f'{name} cannot be loaded as a tf_keras model ({first_line(error)}): a whole model saved as '
    '.keras, .h5 or SavedModel was expected, with classes of your own registered '
    '(keras.utils.register_keras_serializable).'
  )
