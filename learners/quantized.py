"""Quantisation-aware fine-tuning: the last phase of any learner, for the full-integer file.

The float model stays as it is, with its own files; its quantized twin is trained from it and gives
`<prefix>_int8.tflite`. What quantisation after training gives is measured as well, on the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from secateurs.learners import measuring
from secateurs.utils.deploy.export import int8_bytes
from secateurs.utils.files import atomic_path
from secateurs.utils.training import distributed
from secateurs.utils.training.quantization import calibrate, quantized_twin, zero_masks
from secateurs.utils.training.schedules import Cosine

if TYPE_CHECKING:
  from secateurs.learners.abstract_learner import Learner

PHASE = 'qat'
_RATE_FACTOR = 0.01  # Default peak rate, as a share of lrn_rate_init.


def train_quantized(learner: Learner) -> None:
  """Runs the phase: `learner.quantized` is trained behind it."""
  config = learner.quant_config
  if learner.starts_over(PHASE):
    learner.state['post_training_accuracy'] = _post_training_accuracy(learner)
    model = learner.compressed_model()
    learner.quantized = quantized_twin(model)
    images = learner.helper.calibration_images(learner.run_config.nb_smpls_calib)
    calibrate(learner.quantized, model, images)
  nb_steps = learner.nb_steps(config.nb_epochs_qat)
  rate = learner.lrn_rate_init * _RATE_FACTOR
  if config.lrn_rate_qat is not None:
    rate = learner.scaled_rate(config.lrn_rate_qat)
  learner.fit(
    PHASE,
    learner.classification(learner.quantized),
    learner.sgd(learner.warmed_up(Cosine(rate, nb_steps), nb_steps)),
    nb_steps=nb_steps,
    model=learner.quantized,
    masks=zero_masks(learner.quantized),
  )


def _post_training_accuracy(learner: Learner) -> float:
  """Accuracy of the file that quantisation after training makes of the float model."""
  path = learner.save_path.with_name('post_training_int8.tflite')
  calibration = learner.helper.calibration_images(learner.run_config.nb_smpls_calib)

  def write() -> None:
    content = int8_bytes(learner.helper.deployable(learner.compressed_model()), calibration)
    with atomic_path(path) as partial:
      partial.write_bytes(content)

  distributed.from_chief(write)
  accuracy = measuring.evaluate_tflite(path, learner.helper, learner.run_config).accuracy
  learner.say(f'Quantised after training: accuracy {100 * accuracy:.2f} %')
  return accuracy
