"""One call for a model and data of the user's: `secateurs.compress`."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.methods import resolve
from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.run.phases import Result
from secateurs.nets import front, unlabelled
from secateurs.nets.datasets.given import Pair
from secateurs.nets.datasets.source import ImageSource
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.config import Config
from secateurs.utils.errors import UserError
from secateurs.utils.registry import unknown

_SHARED = {
  'run': RunConfig,
  'training': TrainConfig,
  'distillation': DistillConfig,
  'quantization': QuantConfig,
}
_MODEL_OPTIONS = tuple(
  name
  for name, parameter in inspect.signature(ModelHelper.from_model).parameters.items()
  if parameter.kind is inspect.Parameter.KEYWORD_ONLY
)


def compress(
  model: keras.Model,
  train: ImageSource | Pair | tf.data.Dataset,
  test: Pair | tf.data.Dataset | None = None,
  *,
  learner: str | None = None,
  **flags: Any,
) -> Result:
  """Compresses a trained model, evaluates, exports and reports it, as the command line does.

  Without a learner it searches for the smallest or fastest file within a loss, as `secateurs compress`
  does: `max_drop=0.01, minimise='latency'`, or `max_bytes='200kB'` with the least loss. A call that was
  stopped is resumed by the same call with the same `run_dir`.

  Args:
    model: functional or Sequential, of tf_keras or Keras 3; it stays as it is.
    train: (inputs, targets) or (inputs, targets, weights of samples) as arrays [n, ...], or a finite
      `tf.data.Dataset` of such, as the model takes them; see `ModelHelper.from_model`. Inputs alone,
      as an array, where there are no labels: the decisions of the model then take their place.
    test: the same for evaluation. Inputs alone need none: every fifth is taken.
    learner: name of a learner or of a published method, such as 'chn-pruned' or 'agp'; default: the
      search, whose flags need no prefix here.
    **flags: any flag of docs/flags.md by its name: run_dir='./runs/mine' (default:
      ./runs/<model>_at_given), nb_epochs_ft=3, cp_prune_option='auto'; and any option of
      `ModelHelper.from_model`: task='regression', class_weight={0: 2.0}, loss=my_loss.

  Returns:
    The compressed model, the content of report.json, and the exported files.

  Raises:
    UserError: there is no such learner or flag, a value is out of range, or as of
      `ModelHelper.from_model`.
  """
  if learner is None:
    learner, flags = front.JOINT, {**front.DEFAULTS, **front.with_prefix(flags)}
  learner_class, method = resolve(learner)
  options = {name: flags.pop(name) for name in _MODEL_OPTIONS if name in flags}
  given = _by_config({**_SHARED, 'config': learner_class.Config}, flags)
  if method is not None:
    prefix = learner_class.Config.prefix
    settings = {name.removeprefix(prefix): value for name, value in method.settings.items()}
    given['config'] = learner_class.Config.with_settings(settings, given['config'])
  made = {part: config(**given[part]) for part, config in _SHARED.items()}
  config = learner_class.Config(**given['config'])
  helper = _helper(model, train, test, {**config.data_defaults, **options})
  return learner_class(
    helper,
    config,
    method=None if method is None else method.name,
    **made,
  ).train()


def _helper(model: Any, train: Any, test: Any, options: dict[str, Any]) -> ModelHelper:
  if not unlabelled.is_unlabelled(train):
    return ModelHelper.from_model(model, train, test, **options)
  helper = ModelHelper.from_model(model, *unlabelled.with_decisions(model, train, test), **options)
  unlabelled.mark(helper)
  return helper


def _by_config(
  configs: dict[str, type[Config]], flags: dict[str, Any]
) -> dict[str, dict[str, Any]]:
  """Values by field for each config, from values by the names of flags."""
  places = {
    config.flag_name(field): (part, field.name)
    for part, config in configs.items()
    for field in dataclasses.fields(config)
  }
  found: dict[str, dict[str, Any]] = {part: {} for part in configs}
  for name, value in flags.items():
    if name not in places:
      raise UserError(unknown('flag of this learner', name, places))
    part, field = places[name]
    found[part][field] = value
  return found
