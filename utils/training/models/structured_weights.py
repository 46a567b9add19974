"""Reads `.weights.h5` files, which hold weights by the structure of the model that saved them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.hdf5_files import check_hdf5
from secateurs.utils.training import distributed
from secateurs.utils.training.models.weights import existing, named_weights

STRUCTURED = '.weights.h5'
"""How names of such files end."""


def read_structured(path: str | Path, model: keras.Model) -> dict[str, np.ndarray]:
  """Weights by name.

  tf_keras names the parts of such a file after the classes of layers, not by their names.

  Args:
    path: the file; with several processes the chief reads it.
    model: of the same layers, which is changed.

  Raises:
    UserError: there is no such file, or it does not fit the model.
  """
  return distributed.from_chief(lambda: _read(existing(Path(path)), model))


def _read(path: Path, model: keras.Model) -> dict[str, np.ndarray]:
  check_hdf5(path)
  try:
    model.load_weights(str(path))
  except Exception as error:  # tf_keras and h5py raise many types for what does not fit.
    raise UserError(
      f'{path} does not fit {model.name} ({first_line(error)}): a {STRUCTURED} file that tf_keras '
      'saved from a model of the same layers in the same order was expected; save the whole model as '
      '.keras instead.'
    ) from error
  return {name: weight.numpy() for name, weight in named_weights(model).items()}
