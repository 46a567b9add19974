"""What a model was compiled with, as defaults of its fine-tuning."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import tf_keras as keras

from secateurs.utils.training.tasks.criteria import Measure

_ACCURACIES = ('accuracy', 'acc', 'sparse_categorical_accuracy', 'categorical_accuracy')
# Of optimizers before Keras 2.11, which old .h5 files hold: a schedule, which a new one replaces.
_LEGACY_SCHEDULE = 'decay'
_OF_AVERAGES = ('use_ema', 'ema_momentum', 'ema_overwrite_frequency')  # A run makes its own.
_OF_CLASS_NUMBERS = ('sparse_top_k_categorical_accuracy',)


@dataclasses.dataclass(frozen=True)
class CompiledOptimizer:
  """An optimizer by its settings, to be made with any schedule of rates.

  Attributes:
    kind: class in tf_keras.optimizers.
    config: its settings except for the rate.
    lrn_rate: its rate, the first one of a schedule.
  """

  kind: str
  config: Mapping[str, Any]
  lrn_rate: float

  @classmethod
  def of(cls, optimizer: keras.optimizers.Optimizer) -> CompiledOptimizer:
    """The settings of an optimizer."""
    config = dict(optimizer.get_config())
    rate = optimizer.learning_rate
    left = ('learning_rate', 'jit_compile', 'is_legacy_optimizer', _LEGACY_SCHEDULE)
    for key in (*left, *_OF_AVERAGES):
      config.pop(key, None)
    kind = type(optimizer).__name__
    return cls(kind, config, float(rate(0) if callable(rate) else rate))

  def make(self, schedule: Any) -> keras.optimizers.Optimizer:
    """A new optimizer with these settings and a schedule of rates."""
    config = {**self.config, 'jit_compile': False}
    return getattr(keras.optimizers, self.kind)(learning_rate=schedule, **config)

  def describe(self) -> str:
    """Name and rate, for the user."""
    return f'{self.kind} (learning rate {self.lrn_rate:g})'


@dataclasses.dataclass(frozen=True)
class Compiled:
  """Defaults that a compiled model brings.

  Attributes:
    optimizer: of the training after compression; None where the model was not compiled.
    metrics: functions of (labels, logits) by name.
    notes: what was taken over and what was not, in sentences.
  """

  optimizer: CompiledOptimizer | None = None
  metrics: Mapping[str, Measure] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


def compiled_settings(model: Any) -> Compiled:
  """Reads a tf_keras model's optimizer, loss and metrics.

  The task follows from the loss. Its settings, and functions of your own, cannot be read here: they are
  named in a note and left to `loss` and `metrics` of `ModelHelper.from_model`.
  """
  optimizer = getattr(model, 'optimizer', None)
  if optimizer is None or not hasattr(keras.optimizers, type(optimizer).__name__):
    return Compiled()
  found = CompiledOptimizer.of(optimizer)
  taken, left = [f'optimizer {found.describe()}'], []
  for loss in _flat(getattr(model, 'loss', None)):
    plain = hasattr(keras.losses, name_of(loss)) and not _smooths(loss)
    (taken if plain else left).append(f'loss {name_of(loss)}')
  metrics: dict[str, Measure] = {}
  classifies = len(model.outputs or ()) == 1 and len(model.outputs[0].shape) == 2
  for metric in _flat(getattr(getattr(model, 'compiled_metrics', None), '_user_metrics', None)):
    name = name_of(metric)
    known = name in _ACCURACIES
    if name in _OF_CLASS_NUMBERS and classifies:
      metrics[name], known = keras.metrics.get(name), True
    (taken if known else left).append(f'metric {name}')
  notes = [
    f'Taken over from the compiled model for the training after compression: {", ".join(taken)}.'
  ]
  if getattr(optimizer, 'use_ema', False):
    notes.append(
      'Moving averages of the compiled optimizer were left out: set --average_ft ema (or average_ft in '
      f'Python), and --ema_decay {optimizer.ema_momentum:g}, to end in averages of weights.'
    )
  if left:
    notes.append(
      f'Of the compiled model, {", ".join(left)} says only what is learned: pass functions as '
      '`loss` and `metrics` where training should use them.'
    )
  return Compiled(found, metrics, tuple(notes))


def name_of(measure: Any) -> str:
  """The name of a loss or metric: of a string, a function or an object, in snake case."""
  if isinstance(measure, str):
    return measure
  name = getattr(measure, '__name__', None)
  if name is None:
    name = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', type(measure).__name__).lower()
  return name


def _smooths(loss: Any) -> bool:
  get_config = getattr(loss, 'get_config', None)
  return bool(get_config and get_config().get('label_smoothing'))


def _flat(value: Any) -> list[Any]:
  if isinstance(value, Mapping):
    value = list(value.values())
  if isinstance(value, (list, tuple)):
    return [one for part in value for one in _flat(part)]
  return [] if value is None else [value]
