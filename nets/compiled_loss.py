"""The loss that a model was compiled with: in memory, or as its file says."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.utils.hdf5_files import check_hdf5

_HDF5 = ('.h5', '.hdf5')


def loss_of(model: keras.Model, output: str | None = None) -> Any:
  """The loss of a compiled model, of one of its outputs if that is named; None if there is none."""
  loss = getattr(model, 'loss', None)
  if output is None:
    return loss
  if isinstance(loss, Mapping):
    return loss.get(output)
  if isinstance(loss, (list, tuple)):
    is_dict = isinstance(getattr(model, 'output', None), Mapping)
    names = list(model.output) if is_dict else list(model.output_names)
    return dict(zip(names, loss)).get(output)
  return loss


def loss_in_file(path: str | Path) -> Any:
  """Names of the losses that a .keras or .h5 file was compiled with; None if it does not say.

  Nothing of the file is run: its config is read as text. Of losses with arguments the name is taken.
  """
  path = Path(path).expanduser()
  try:
    if path.suffix in _HDF5:
      import h5py

      check_hdf5(path)
      with h5py.File(path) as file:
        text = file.attrs.get('training_config')
      config = json.loads(text) if text else {}
    else:
      with zipfile.ZipFile(path) as file:
        config = json.loads(file.read('config.json')).get('compile_config') or {}
  except (OSError, KeyError, ValueError, AttributeError, RecursionError, zipfile.BadZipFile):
    return None
  return _names(config.get('loss')) if isinstance(config, Mapping) else None


def _names(loss: Any) -> Any:
  """Names in place of serialised losses: for all outputs, by output, or in order."""
  if isinstance(loss, Mapping) and 'class_name' in loss:
    config = loss.get('config')
    return config if isinstance(config, str) else (config or {}).get('name') or loss['class_name']
  if isinstance(loss, Mapping):
    return {name: _names(one) for name, one in loss.items()}
  if isinstance(loss, list):
    return [_names(one) for one in loss]
  return loss if isinstance(loss, str) else None
