"""Weights by name: reading them from any file that users have, and putting them into a model."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import model_files
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.rebuild import KERNELS
from secateurs.utils.model_files import first_line
from secateurs.utils.training import distributed

_NB_LISTED = 8
_H5_ENDINGS = ('.h5', '.hdf5')
_CHECKPOINT_PREFIX = 'variables/'
_CHECKPOINT_SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'


def named_weights(model: keras.Model) -> dict[str, tf.Variable]:
  """All weights of a model as `<layer>/<weight>`, such as `stem_conv/kernel`.

  Nested models count as their layers. A weight whose short name its layer has twice keeps its full
  name.
  """
  weights: dict[str, tf.Variable] = {}
  for layer in leaf_layers(model):
    for weight in layer.weights:
      path = weight.name.split(':')[0]
      name = f'{layer.name}/{path.rsplit("/", 1)[-1]}'
      if name in weights and weights[name] is not weight:
        name = path
      weights[name] = weight
  return weights


def leaf_layers(model: keras.Model) -> list[keras.layers.Layer]:
  """The layers of a model; those of nested models stand in for the models."""
  layers = []
  for layer in model.layers:
    layers.extend(leaf_layers(layer) if isinstance(layer, keras.Model) else [layer])
  return layers


def trainable_kernels(model: keras.Model) -> list[tuple[keras.layers.Layer, tf.Variable]]:
  """The trainable kernels of a model, each with the layer that it belongs to."""
  return [
    (layer, weight)
    for layer in leaf_layers(model)
    for weight in layer.trainable_weights
    if weight.name.split(':')[0].rsplit('/', 1)[-1] in KERNELS
  ]


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
    return _read_npz(_existing(path))
  if path.suffix in _H5_ENDINGS and (weights := _read_h5_weights(_existing(path))) is not None:
    return weights
  if path.suffix in ('.keras', *_H5_ENDINGS) or (path / 'saved_model.pb').is_file():
    return {name: w.numpy() for name, w in named_weights(load_model(_existing(path))).items()}
  return _read_checkpoint(path)


def load_model(path: str | Path) -> keras.Model:
  """Loads a whole tf_keras model for inference; with several processes, the chief's file.

  Raises:
    UserError: there is no such file, or it cannot be loaded; see `model_files.load_model`.
  """
  path = distributed.from_chief(lambda: _existing(Path(path)))
  with distributed.chiefs_file(path) as copy:
    return model_files.load_model(copy, path)


def assign_weights(
  variables: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray], source: str
) -> None:
  """Puts values into variables of the same names and shapes; all or nothing.

  Args:
    variables: where to put them, by name.
    values: what to put; names that `variables` lacks are a mistake, too.
    source: where the values come from, for the error message.

  Raises:
    UserError: names or shapes differ; each is listed, expected against found.
  """
  problems = []
  for name, variable in variables.items():
    expected = tuple(variable.shape)
    if name not in values:
      problems.append(f'{name}: expected {expected}, found nothing')
    elif tuple(values[name].shape) != expected:
      problems.append(f'{name}: expected {expected}, found {tuple(values[name].shape)}')
  problems += [
    f'{name}: expected nothing, found {tuple(values[name].shape)}'
    for name in values
    if name not in variables
  ]
  if problems:
    listed = '; '.join(problems[:_NB_LISTED])
    more = f'; and {len(problems) - _NB_LISTED} more' if len(problems) > _NB_LISTED else ''
    raise UserError(
      f'{source} does not fit the network ({listed}{more}): give weights of the same network, or the '
      'flags of the network that they belong to.'
    )
  for name, variable in variables.items():
    variable.assign(values[name])


def checkpoint_values(prefix: str | Path, group: str) -> dict[str, np.ndarray]:
  """One group's tensors of a checkpoint that `checkpoints.CheckpointStore` wrote, by name.

  The names are without the group's own; no other tensor is read.
  """
  reader, start = tf.train.load_checkpoint(str(prefix)), f'{group}/'
  names = {key: _name_of_key(key) for key in reader.get_variable_to_shape_map()}
  return {
    name.removeprefix(start): reader.get_tensor(key)
    for key, name in names.items()
    if name is not None and name.startswith(start)
  }


def _name_of_key(key: str) -> str | None:
  if not (key.startswith(_CHECKPOINT_PREFIX) and key.endswith(_CHECKPOINT_SUFFIX)):
    return None
  name = key[len(_CHECKPOINT_PREFIX) : -len(_CHECKPOINT_SUFFIX)]
  return name.replace('.S', '/').replace('..', '.')


def _read_checkpoint(path: Path) -> dict[str, np.ndarray]:
  from secateurs.utils.training.checkpoints import CheckpointStore

  prefix: Path | str = path
  if not path.with_name(path.name + '.index').is_file():
    saved = CheckpointStore(path).latest()
    if saved is None:
      raise UserError(
        f'{path} is no weights file: an .npz, .keras or .h5 file, a SavedModel folder or the prefix of '
        'a checkpoint was expected.'
      )
    prefix = saved.prefix
  try:
    weights = checkpoint_values(prefix, 'model')
  except (tf.errors.OpError, ValueError) as error:
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
          weights[key] = file[layer][name][()]
      return weights
  except (OSError, KeyError):
    return None  # Whatever it is, loading it as a model tells what is wrong.


def _texts(values: np.ndarray) -> list[str]:
  return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _modern(name: str) -> str:
  """Files of 2016 call a layer's kernel and bias such as `block1_conv1_W_1` and `block1_conv1_b_1`."""
  match = re.fullmatch(r'.+_(W|b)(_\d+)?', name)
  return name if match is None else {'W': 'kernel', 'b': 'bias'}[match[1]]


def _read_npz(path: Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {name: archive[name] for name in archive.files}
  except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
    raise UserError(
      f'{path} cannot be read as a NumPy archive ({first_line(error)}): it is damaged, use another.'
    ) from error


def _existing(path: Path) -> Path:
  if not path.exists():
    raise UserError(f'{path} does not exist: give the path of a weights file.')
  return path
