"""Reads weights by name from any file that users have."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.hdf5_files import check_hdf5
from secateurs.utils.names import unique_name
from secateurs.utils.npz_files import read_npz
from secateurs.utils.training import distributed
from secateurs.utils.training.models.checkpoints import (
  CheckpointStore,
  checkpoint_values,
  require_undamaged,
)
from secateurs.utils.training.models.weights import existing, load_model, named_weights

_H5_ENDINGS = ('.h5', '.hdf5')


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
  """Reads weights by name.

  Args:
    path: an .npz archive with keys `<layer>/<weight>`; a model as .keras, .h5 or SavedModel folder; an
      .h5 file of weights alone, as tf_keras.applications downloads them; or the prefix of a checkpoint
      of this project, with or without its number.

  With several processes the chief reads.

  Raises:
    UserError: nothing there, or not readable.
  """
  return distributed.from_chief(lambda: _read_weights(Path(path)))


def _read_weights(path: Path) -> dict[str, np.ndarray]:
  if path.suffix == '.npz':
    return read_npz(existing(path))
  if path.suffix in _H5_ENDINGS and (weights := _read_h5_weights(existing(path))) is not None:
    return weights
  if path.suffix in ('.keras', *_H5_ENDINGS) or (path / 'saved_model.pb').is_file():
    return {name: w.numpy() for name, w in named_weights(load_model(existing(path))).items()}
  return _read_checkpoint(path)


def _read_checkpoint(path: Path) -> dict[str, np.ndarray]:
  prefix: Path | str = path
  if not path.with_name(path.name + '.index').is_file():
    saved = CheckpointStore(path).latest()
    if saved is None:
      raise UserError(
        f'{path} is no weights file: an .npz, .keras or .h5 file, a SavedModel folder or the prefix of '
        'a checkpoint was expected.'
      )
    prefix = saved.prefix
  else:
    require_undamaged(path)
  try:
    weights = checkpoint_values(prefix, 'model')
  except (tf.errors.OpError, ValueError, IndexError, MemoryError) as error:
    raise UserError(
      f'{prefix} cannot be read as a checkpoint ({first_line(error)}): it is damaged, use another.'
    ) from error
  if not weights:
    raise UserError(
      f'{prefix} holds no model weights under the names that this project writes: save the model as '
      '.keras or its weights as .npz with keys <layer>/<weight>.'
    )
  return weights


def _read_h5_weights(path: Path) -> dict[str, np.ndarray] | None:
  """The content of an HDF5 file that holds weights alone; None for a whole model or anything else."""
  import h5py

  check_hdf5(path)
  try:
    with h5py.File(path) as file:
      if 'layer_names' not in file.attrs:
        return None
      weights = {}
      for layer in _texts(file.attrs['layer_names']):
        names = _texts(file[layer].attrs['weight_names'])
        nested = len({name.rpartition('/')[0] for name in names}) > 1
        for name in names:
          owner, _, short = name.split(':')[0].rpartition('/')
          key = f'{owner.rpartition("/")[2] if nested else layer}/{_modern(short)}'
          wished = (key, path := name.split(':')[0], f'{layer}_{key}', f'{layer}_{path}')
          key = next((one for one in wished if one not in weights), unique_name(path, weights))
          weights[key] = file[layer][name][()]
      return weights
  except (OSError, KeyError):
    return None  # Whatever it is, loading it as a model reports what is wrong.


def _texts(values: np.ndarray) -> list[str]:
  return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _modern(name: str) -> str:
  """Files of 2016 call a layer's kernel and bias such as `block1_conv1_W_1` and `block1_conv1_b_1`."""
  match = re.fullmatch(r'.+_(W|b)(_\d+)?', name)
  return name if match is None else {'W': 'kernel', 'b': 'bias'}[match[1]]
