"""The result of a run in the Keras that its network came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.helper import Helper
from secateurs.utils.deploy.files.export_files import Writer, keras3_writer
from secateurs.utils.errors import UserError


def in_kind(model: keras.Model, helper: Helper) -> Any:
  """A deployable model as one of Keras 3, if the network came so and that can be built."""
  return (_rebuilt(model) or model) if _wanted(helper) else model


def further_files(model: keras.Model, helper: Helper) -> Mapping[str, Writer]:
  """Writer of the file of Keras 3, if the network came so and that can be built."""
  three = _rebuilt(model) if _wanted(helper) else None
  return {} if three is None else {'keras3': keras3_writer(three)}


def _wanted(helper: Helper) -> bool:
  return getattr(helper, 'keras3', False)  # Helpers of a user's own may know nothing of it.


def _rebuilt(model: keras.Model) -> Any:
  from secateurs.utils.keras3 import to_keras3

  try:
    return to_keras3(model)
  except UserError as error:
    say(f'There is no file of Keras 3, but all others: {error}')
    return None
