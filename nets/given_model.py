"""Reads the model file that a user brings."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.training.models.weights import load_model

# How tf_keras complains of a class that it does not know: functional, Sequential, HDF5.
_SIGNS_OF_OWN_LAYERS = ('Could not locate class', "of type <class 'str'>", 'nknown layer')


def use_custom_objects(module: str) -> None:
  """Makes the classes and functions of a module known to tf_keras.

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
    reason = (str(error).strip().splitlines() or ['no reason given'])[0]
    raise UserError(
      f'--custom_objects {module} cannot be imported ({type(error).__name__}: {reason}): give a '
      'module on the Python path, or the path of a .py file.'
    ) from error
  objects = {
    name: value
    for name, value in vars(loaded).items()
    if not name.startswith('_') and (inspect.isclass(value) or inspect.isfunction(value))
  }
  keras.utils.get_custom_objects().update(objects)


def read_model(path: str, custom_objects: str | None) -> keras.Model:
  """Loads a model file.

  Raises:
    UserError: it is none, or a class in it is not known.
  """
  if custom_objects:
    use_custom_objects(custom_objects)
  try:
    return load_model(path)
  except UserError as error:
    if any(sign in str(error) for sign in _SIGNS_OF_OWN_LAYERS):
      raise UserError(
        f'{path} holds a layer of your own ({error.__cause__ or error}): name the module that defines '
        'it with --custom_objects.'
      ) from error
    raise
