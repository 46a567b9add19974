"""What each layer of a network costs in 8 bits, for the report of a run with --export_int8."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.run.console import say, with_eta
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.deploy.files.export import Export
from secateurs.utils.deploy.int8.layer_errors import Divergence, Errors, layer_errors
from secateurs.utils.deploy.int8.repair import Repairer
from secateurs.utils.deploy.lowbits.ranges import activation_ranges
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.errors import first_line
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed

_NB_RANGES = 64
_SHOWN = 3
_NB_COMPARED, _COMPARED_AT_ONCE = 200, 8  # Outputs may be maps.


def add_to(
  report: dict[str, Any],
  settings: Settings,
  model: keras.Model,
  export: Export,
  repair: Repairer | None = None,
) -> None:
  """Adds to a report what the layers of the int8 file cost, and what its repair did."""
  report['int8_layers'], refused = measure(settings, model, export, repair)
  report['notes'] += [] if refused is None else [refused]
  report['int8_repair'] = export.repairs or None
  report['notes'] += notes(settings)


def measure(
  settings: Settings, model: keras.Model, export: Export, repair: Repairer | None = None
) -> tuple[dict[str, Any] | None, str | None]:
  """The report's `int8_layers`; None without --export_int8, a float file, or the library.

  Args:
    settings: calibration and task.
    model: as it is trained, float32.
    export: its files.
    repair: what repaired them, which may have measured layers already.

  Returns:
    The block, and a sentence where the library fails.
  """
  if not settings.run.wants_int8 or export.tflite is None:
    return None, None
  if importlib.util.find_spec('ai_edge_quantizer') is None:
    say("What layers cost in 8 bits is measured with ai-edge-quantizer: pip install -e '.[quant]'.")
    return None, None
  helper = settings.helper
  images = helper.calibration_images(min(settings.run.nb_smpls_calib, _NB_RANGES))

  def errors_of() -> Errors:
    shared = None if repair is None else repair.layer_errors()
    if shared is not None:
      return shared
    content = export.tflite.path.read_bytes()
    ranges, apart = activation_ranges(content, images), divergence(helper)
    return layer_errors(content, ranges, images, layer_names(model), apart, with_eta)

  def found() -> tuple[dict[str, Any] | None, str | None]:
    try:
      errors = errors_of()
    except Exception as error:  # Whatever the library raises: all work of the run is done by now.
      reason = first_line(error)
      sentence = f'What each layer costs in 8 bits was not measured: {reason}'
      say(sentence)
      return None, sentence
    if not errors.layers:
      return None, None
    worst = ', '.join(f'{one.layer} ({one.alone:.2g})' for one in errors.layers[:_SHOWN])
    say(
      f'8 bits cost a divergence of {errors.all:.2g} over {errors.nb_images} images; layers that cost '
      f'most alone: {worst}.'
    )
    return errors.block(), None

  return distributed.from_chief(found)


def file_divergence(settings: Settings, export: Export) -> float | None:
  """Mean divergence of the int8 file's outputs from the float file's; needs no labels.

  Over the first 200 evaluation samples; None where one of the files is missing.

  Args:
    settings: data and task.
    export: the files.
  """
  if export.tflite is None or export.tflite_int8 is None:
    return None
  helper, threads = settings.helper, max(settings.run.threads)

  def measured() -> float:
    files = [TFLiteModel(one.path, threads) for one in (export.tflite, export.tflite_int8)]
    apart, found = divergence(helper), []
    batches = helper.eval_batches('eval', _COMPARED_AT_ONCE)
    for inputs, *_ in batches.take(_NB_COMPARED // _COMPARED_AT_ONCE):
      given = nested.as_numpy(inputs)
      found.append(apart(*(file.predict(given) for file in files)))
    return float(np.mean(np.concatenate(found)))

  return distributed.from_chief(measured)


def notes(settings: Settings) -> list[str]:
  """A sentence where the integer ranges come from fewer images than there are classes."""
  classes = getattr(settings.helper.dataset, 'nb_classes', None) or 0
  given = settings.run.nb_smpls_calib
  if not settings.wants_int8 or given >= classes:
    return []
  return [
    f'The int8 ranges come from {given} images of {classes} classes: some classes were never seen; '
    f'give --nb_smpls_calib {classes} or more.'
  ]


def layer_names(model: keras.Model) -> list[str]:
  """Names of a network's layers in the order of their calls."""
  return [call.name for call in flatten_model(model).calls]


def divergence(helper: Helper) -> Divergence:
  """How far outputs of two exported files lie apart, by the task's own measure."""
  task = helper.task

  def apart(original: Any, changed: Any) -> Any:
    both = [nested.as_numpy(task.trained_outputs(one)) for one in (original, changed)]
    return task.divergence(*both)

  return apart
