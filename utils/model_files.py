"""Opens model files, or says in one sentence what they are instead."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.hdf5_files import check_archived, check_hdf5
from secateurs.utils.keras3.kinds import is_keras3, load_keras3
from secateurs.utils.keras_archives import load_tf_keras
from secateurs.utils.other_models import refuse_others
from secateurs.utils.unpacking import check_model_archive, limited_variables
from secateurs.utils.untrusted import refuse_code

_OF_NETWORK = re.compile(r'\w+_at_\w+')


def load_model(path: str | os.PathLike, name: str | os.PathLike | None = None) -> keras.Model:
  """Loads a whole model for inference from .keras, .h5 or a SavedModel folder.

  A model of Keras 3 is rebuilt in tf_keras and proved equal, see `utils.keras3`.

  Args:
    path: where it lies.
    name: what messages call it, where it is a copy.

  Raises:
    UserError: the file is missing or damaged, needs a class that is not known here, would run code
      (found in its config before it is loaded), holds weights only, or more than fits into memory.
  """
  model = _loaded(path, name or path, with_training=False)
  if not is_keras3(model):
    return model
  from secateurs.utils.keras3 import to_tf_keras

  return to_tf_keras(model)


def load_given(path: str | os.PathLike, name: str | os.PathLike | None = None) -> Any:
  """Loads a whole model as a model of the Keras that wrote it, compiled as it was where that works.

  Raises:
    UserError: as of `load_model`, except for what has no counterpart in the other Keras.
  """
  return _loaded(path, name or path, with_training=True)


def _loaded(path: str | os.PathLike, name: str | os.PathLike, with_training: bool) -> Any:
  path = Path(path)
  if not path.exists():
    kind = ', and the name of a network is no model' if _OF_NETWORK.fullmatch(str(name)) else ''
    raise UserError(
      f'{name} does not exist{kind}: give the path of a model file, such as the model.keras that a '
      'run leaves.'
    )
  refuse_others(path, name)
  load = load_tf_keras
  check_hdf5(path, name)
  try:
    check_model_archive(path, name)
    check_archived(path, name)
    refuse_code(path, name)
    if saved_by_keras3(path):
      load = load_keras3
    if with_training and not path.is_dir():
      try:
        with limited_variables(name):
          return load(path, with_training=True)
      except Exception:  # Losses and metrics of the user's own, of many types: the model alone.
        pass
    with limited_variables(name):
      return load(path)
  except UserError:
    raise
  except Exception as error:  # Keras, h5py and zipfile raise many types for what they cannot read.
    raise _explained(error, name) from error


def saved_by_keras3(path: str | os.PathLike) -> bool:
  """Whether a .keras or .h5 file was written by Keras 3.

  Raises:
    Exception: of many types, if the file is damaged.
  """
  version = keras_version(Path(path))
  return version is not None and int(version.split('.')[0]) >= 3


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


def _explained(error: Exception, name: str | os.PathLike) -> UserError:
  if 'No model config found' in str(error):
    return UserError(
      f'{name} holds weights alone, but a whole model was expected: save it with model.save, or give '
      'the file to secateurs compress with the name of its network and --warm_start_path.'
    )
  return UserError(
    f'{name} cannot be loaded as a Keras model ({first_line(error)}): a whole model saved as '
    '.keras, .h5 or SavedModel was expected, with classes of your own registered '
    '(keras.utils.register_keras_serializable).'
  )
