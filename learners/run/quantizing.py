"""Learners whose compressed model may be trained in 8 bits after all else."""

from __future__ import annotations

from collections.abc import Mapping

import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.learner import Learner
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.preflight import checks
from secateurs.learners.run.training import quantized
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.models.quantization import quantized_twin, zero_masks


class QuantizingLearner(Learner):
  """A learner with the phase of --enbl_qat.

  Attributes:
    quantized: with --enbl_qat, the float32 twin of the model that simulates 8 bits, from that phase on.
  """

  quantized: keras.Model | None = None

  def compressed_model(self) -> keras.Model:
    """The float32 model that is exported."""
    return self.settings.in_float32(self.model)

  def preflight(self) -> list[checks.Check]:
    """As of all learners, and whether 8 bits can be simulated."""
    return [
      *super().preflight(),
      lambda: checks.require_8_bits(self.settings, self.model),
    ]

  def quantization_phases(self) -> list[Phase]:
    """What stands between the training and the measuring of the result."""
    if not self.settings.quantization.enbl_qat:
      return []
    nb_steps = self.rates.nb_steps(self.settings.quantization.nb_epochs_qat)
    return [Phase(quantized.PHASE, self._train_quantized, nb_steps)]

  def networks(self) -> Mapping[str, keras.Model]:
    """The quantized twin, while there is one."""
    return {} if self.quantized is None else {'quantized': self.quantized}

  def prepare_networks(self) -> None:
    """Makes the quantized twin again."""
    state = self.session.state
    if state.quantized_with and quantized.flags(self.settings):
      self.quantized = quantized_twin(self.compressed_model())

  def _train_quantized(self) -> None:
    if self.session.starts_over(quantized.PHASE):
      model = self.compressed_model()
      path = self.files.save_path.with_name('post_training_int8.tflite')
      score = quantized.post_training_score(self.settings, model, path)
      self.session.state.post_training_score = score
      self.quantized = quantized.calibrated_twin(self.settings, model)
      self.session.state.quantized_with = quantized.flags(self.settings)
    nb_steps = self.rates.nb_steps(self.settings.quantization.nb_epochs_qat)
    masks = zero_masks(self.quantized)
    self.fit(
      quantized.PHASE,
      self.objective(self.quantized),
      quantized.optimizer(self.settings, self.rates, nb_steps),
      nb_steps=nb_steps,
      network=self.quantized,
      hooks=Hooks(constraints=[masks] if masks else []),
    )

  def forgets_other_quantization(self, measured: bool) -> bool:
    """Whether training in 8 bits is not what the flags ask for now; then its results are forgotten.

    `measured`: whether the run was finished, with or without that training.
    """
    state, wanted = self.session.state, quantized.flags(self.settings)
    if state.quantized_with == wanted or not (state.quantized_with or measured):
      return False
    if state.quantized_with is not None:
      say(f'Training in 8 bits was done with {state.quantized_with}, now it is {wanted or "off"}.')
    if state.phase == quantized.PHASE:
      state.step = 0
    state.quantized_with = state.post_training_score = None
    return True
