"""Quantisation-aware fine-tuning: the last phase of any learner, for the full-integer file.

The float model stays as it is, with its own files; its quantized twin is trained from it and gives
`<prefix>_int8.tflite`. What quantisation after training gives is measured as well, on the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.results import measuring
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training.rates import Rates
from secateurs.utils.deploy import int8_bytes
from secateurs.utils.files import atomic_path
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.schedules import Cosine
from secateurs.utils.training.models.quantization import calibrate, quantized_twin

PHASE = 'qat'
_RATE_FACTOR = 0.01  # Default peak rate, as a fraction of lrn_rate_init.


def flags(settings: Settings) -> dict[str, Any] | None:
  """What training in 8 bits depends on beside the network; None where it is not wanted."""
  config = settings.quantization
  if not config.enbl_qat:
    return None
  return {**config.as_flags(), 'nb_smpls_calib': settings.run.nb_smpls_calib}


def calibrated_twin(settings: Settings, model: keras.Model) -> keras.Model:
  """A twin of a float32 model that simulates 8 bits, with the ranges of some training images."""
  twin = quantized_twin(model)
  calibrate(twin, settings.helper.calibration_images(settings.run.nb_smpls_calib))
  return twin


def optimizer(settings: Settings, rates: Rates, nb_steps: int) -> keras.optimizers.Optimizer:
  """SGD whose rate is half a cosine down to zero."""
  given = settings.quantization.lrn_rate_qat
  rate = rates.lrn_rate_init * _RATE_FACTOR if given is None else rates.scaled(given)
  return rates.sgd(rates.warmed_up(Cosine(rate, nb_steps), nb_steps))


def post_training_score(settings: Settings, model: keras.Model, path: Path) -> float:
  """Value of the score of the file that quantisation after training makes of a float model.

  Args:
    settings: data, task and calibration.
    model: float32.
    path: where the file is written.
  """
  helper = settings.helper
  calibration = helper.calibration_images(settings.run.nb_smpls_calib)

  def write() -> None:
    content = int8_bytes(helper.task.deployable(model), calibration)
    with atomic_path(path) as partial:
      partial.write_bytes(content)

  distributed.from_chief(write)
  score = measuring.evaluate_tflite(path, helper, settings.run).score
  say(f'Quantised after training: {score}')
  return score.value
