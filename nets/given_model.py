"""Loads a model file given by the user."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.training.models.weights import load_given

# Messages of tf_keras for an unknown class, in functional, Sequential and HDF5 files.
_SIGNS_OF_OWN_LAYERS = ('Could not locate class', "of type <class 'str'>", 'nknown layer')


def use_custom_objects(module: str) -> None:
  """Registers the classes and functions of a module with tf_keras, those of Keras 3 with that.

  Args:
    module: a dotted name, or the path of a .py file.

  Raises:
    UserError: it cannot be imported.
  """
  try:
    if module.endswith('.py'):
      spec = importlib.util.spec_from_file_location(Path(module).stem, module)
      loaded = importlib.util.module_from_spec(spec)
      sys.modules[spec.name] = loaded
      spec.loader.exec_module(loaded)
    else:
      loaded = importlib.import_module(module)
  except Exception as error:  # Whatever the user's code raises.
    reason = first_line(error)
    raise UserError(
      f'--custom_objects {module} cannot be imported ({type(error).__name__}: {reason}): give a '
      'module on the Python path, or the path of a .py file.'
    ) from error
  objects = {
    name: value
    for name, value in vars(loaded).items()
    if not name.startswith('_') and (inspect.isclass(value) or inspect.isfunction(value))
  }
  of_keras3 = {name: value for name, value in objects.items() if _is_of_keras3(value)}
  if of_keras3:
    import keras as keras3

    keras3.saving.get_custom_objects().update(of_keras3)
  others = {name: value for name, value in objects.items() if name not in of_keras3}
  keras.utils.get_custom_objects().update(others)


def _is_of_keras3(value: object) -> bool:
  bases = value.__mro__ if inspect.isclass(value) else ()
  return any(base.__module__.split('.')[0] == 'keras' for base in bases)


def read_model(path: str, custom_objects: str | None) -> Any:
  """Loads a model file, as a model of the Keras that wrote it.

  Raises:
    UserError: the file is not a model, or a class in it is unknown.
  """
  if custom_objects:
    use_custom_objects(custom_objects)
  try:
    return load_given(path)
  except UserError as error:
    if any(sign in str(error) for sign in _SIGNS_OF_OWN_LAYERS):
      raise UserError(
        f'{path} contains a custom layer ({error.__cause__ or error}): name the module that defines '
        'it with --custom_objects.'
      ) from error
    raise
