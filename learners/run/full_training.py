"""Training of a network as it is: the baseline of all learners that compress."""

from __future__ import annotations

import tf_keras as keras

from secateurs.learners.run.configs import FULL_PREC, FullPrecConfig
from secateurs.learners.run.given import given_weights
from secateurs.learners.run.measured import MeasuredLearner
from secateurs.learners.run.phases import MEASURE, Phase
from secateurs.learners.run.preflight import lock, work
from secateurs.learners.run.preflight.work import Work
from secateurs.learners.run.zeros import zero_fraction
from secateurs.utils.training.models.weights import assign_weights, named_weights

TRAIN = 'train'


class FullTraining(MeasuredLearner):
  """Trains with SGD and a piecewise constant rate, as the network's recipe says."""

  name = FULL_PREC
  Config = FullPrecConfig
  is_original = True

  def phases(self) -> list[Phase]:
    """Training, then measuring."""
    nb_steps = self.rates.baseline_steps()
    return [Phase(TRAIN, self._train, nb_steps), *self.quantization_phases(), self.measure_phase()]

  def work_of(self, phase: str) -> Work:
    """Measuring is known before."""
    return work.of_result(self.settings) if phase == MEASURE else super().work_of(phase)

  def trained_model(self) -> keras.Model:
    """Trains, or resumes training, without measuring; float32.

    Raises:
      UserError: as for `train`.
    """
    try:
      self.run_phases(until=TRAIN)
    finally:
      lock.release(self.files.save_path.parent)
    return self.settings.in_float32(self.model)

  def given_model(self) -> keras.Model | None:
    """The network with the weights of --warm_start_path, or those that it came with."""
    given = given_weights(self.settings)
    if given is None:
      return None
    model = self.build()
    assign_weights(named_weights(model), *given)
    return model

  def _train(self) -> None:
    rates = self.rates
    given = given_weights(self.settings)
    if given is not None and self.session.starts_over(TRAIN):
      assign_weights(named_weights(self.model), *given)
      self.session.state.input_zeros = zero_fraction(self.model)
    self.fit(
      TRAIN,
      self.objective(),
      rates.sgd(rates.baseline_schedule()),
      nb_steps=rates.baseline_steps(),
    )
