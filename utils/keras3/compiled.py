"""What a model of Keras 3 was compiled with, for its tf_keras counterpart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import first_line
from secateurs.utils.keras3.kinds import is_keras3

_ONLY_IN_KERAS3 = ('loss_scale_factor', 'gradient_accumulation_steps')
_REDUCTIONS = {'mean': 'sum_over_batch_size', 'mean_with_sample_weight': 'sum_over_batch_size'}


def compile_like(made: keras.Model, model: Any, notes: list[str]) -> None:
  """Compiles a rebuilt model as the given one was; what has no counterpart is noted and left out.

  Args:
    made: the tf_keras model.
    model: the one of Keras 3 that it was made from.
    notes: gets a sentence for each part that is left out.
  """
  if not getattr(model, 'compiled', False):
    return
  optimizer = _tried(optimizer_in, model.optimizer, 'optimizer', notes)
  loss = _tried(_measures, getattr(model, 'loss', None), 'loss', notes)
  given = getattr(getattr(model, '_compile_metrics', None), '_user_metrics', None)
  metrics = _tried(_measures, given, 'metrics', notes)
  made.compile(optimizer=optimizer or 'sgd', loss=loss, metrics=metrics)
  if optimizer is None:
    made.optimizer = None


def _tried(convert: Any, value: Any, what: str, notes: list[str]) -> Any:
  try:
    return convert(value)
  except Exception as error:  # Whatever a constructor of tf_keras raises.
    reason = first_line(error)
    notes.append(f'The {what} that the model was compiled with is not taken over ({reason}).')
    return None


def optimizer_in(optimizer: Any) -> keras.optimizers.Optimizer | None:
  """The tf_keras optimizer of the same class and settings, without its slots.

  Raises:
    Exception: of many types, where there is none.
  """
  if optimizer is None:
    return None
  optimizer = getattr(optimizer, 'inner_optimizer', optimizer)
  target = getattr(keras.optimizers, type(optimizer).__name__, None)
  if target is None:
    raise ValueError(f'tf_keras has no {type(optimizer).__name__}')
  config = {k: v for k, v in optimizer.get_config().items() if k not in _ONLY_IN_KERAS3}
  return target.from_config(config)


def _measures(value: Any) -> Any:
  """Losses or metrics: names, objects and functions, alone or in lists and dictionaries."""
  if value is None or isinstance(value, str):
    return value
  if isinstance(value, Mapping):
    return {key: _measures(one) for key, one in value.items()}
  if isinstance(value, (list, tuple)):
    return [_measures(one) for one in value]
  name = getattr(value, '__name__', None)
  module = getattr(value, '__module__', '') or ''
  if name is not None and module.split('.')[0] == 'keras':
    return keras.losses.get(name) if 'loss' in module else keras.metrics.get(name)
  if not is_keras3(value) or type(value).__module__.split('.')[0] != 'keras':
    return value  # A function or class of the user's own.
  kind = type(value).__name__
  target = getattr(keras.losses, kind, None) or getattr(keras.metrics, kind)
  config = {k: v for k, v in value.get_config().items() if k != 'dtype'}
  if 'reduction' in config:
    config['reduction'] = _REDUCTIONS.get(config['reduction'], config['reduction'])
  return target.from_config(config)
