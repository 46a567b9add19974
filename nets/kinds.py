"""A model of either Keras that a user gives, as a tf_keras model with what it brings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tf_keras as keras

from secateurs.nets.compiled import Compiled, compiled_settings
from secateurs.utils.keras3.kinds import is_keras3


@dataclasses.dataclass(frozen=True)
class Given:
  """A model that came in.

  Attributes:
    model: in tf_keras.
    keras3: whether it came as a model of Keras 3.
    compiled: defaults of the training after compression.
    notes: what the reader of a report must know.
  """

  model: keras.Model
  keras3: bool
  compiled: Compiled
  notes: list[str]

  def recipe(self, recipe: Any) -> Any:
    """A recipe with the optimizer that the model was compiled with."""
    optimizer = self.compiled.optimizer
    return recipe if optimizer is None else dataclasses.replace(recipe, optimizer=optimizer)


def given(model: Any, layers: Mapping[Any, Any] | None = None) -> Given:
  """Takes a model in; anything that is no model passes, and is refused where it is used.

  Args:
    model: of tf_keras, or of Keras 3, which is rebuilt and proved equal.
    layers: see `utils.keras3.to_tf_keras`.

  Raises:
    UserError: a model of Keras 3 cannot be rebuilt.
  """
  notes: list[str] = []
  keras3 = is_keras3(model)
  if keras3:
    from secateurs.utils.keras3 import to_tf_keras

    model = to_tf_keras(model, layers, notes=notes)
  compiled = compiled_settings(model)
  return Given(model, keras3, compiled, [*notes, *compiled.notes])
