"""FullPrecLearner: trains the network as it is, and measures it: the baseline of all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tf_keras as keras

from secateurs.learners import measuring, register, reporting
from secateurs.learners.abstract_learner import Learner, Phase
from secateurs.learners.configs import FullPrecConfig
from secateurs.utils.graph import count
from secateurs.utils.training.schedules import PiecewiseConstant
from secateurs.utils.training.weights import assign_weights, named_weights

TRAIN = 'train'


@register
class FullPrecLearner(Learner):
  """Trains with SGD and a piecewise constant rate, as the network's recipe says."""

  name = 'full-prec'
  Config = FullPrecConfig

  def phases(self) -> list[Phase]:
    """Training, then measuring."""
    return [
      Phase(TRAIN, self._train),
      *self.quantization_phases(),
      Phase('measure', self._measure),
    ]

  def trained_model(self) -> keras.Model:
    """Trains, or goes on training, without measuring; float32.

    Raises:
      UserError: as for `train`.
    """
    self.run_phases(until=TRAIN)
    return self.in_float32(self.model)

  def given_model(self) -> keras.Model | None:
    """The network with the weights of --warm_start_path, or those that it came with."""
    given = self._given_weights()
    if given is None:
      return None
    model = self.build()
    assign_weights(named_weights(model), *given)
    return model

  def _given_weights(self) -> tuple[dict[str, np.ndarray], str] | None:
    """Weights to start from, and where they come from."""
    path = self.run_config.warm_start_path
    if path:
      return self.read_weights(path), path
    given = self.helper.given_weights()
    return None if given is None else (given, f'the weights that {self.helper.net} came with')

  @property
  def original_prefix(self) -> Path:
    """The network is its own original."""
    return self.save_path_eval

  def _train(self) -> None:
    recipe, ratio = self.helper.recipe, self.train_config.nb_epochs_rat
    given = self._given_weights()
    if given is not None and self.starts_over(TRAIN):
      assign_weights(named_weights(self.model), *given)
    boundaries = [self.nb_steps(epoch * ratio) for epoch in recipe.decay_epochs]
    nb_steps = self.nb_steps(recipe.nb_epochs * ratio)
    schedule = PiecewiseConstant(self.lrn_rate_init, boundaries, recipe.decay)
    self.fit(
      TRAIN,
      self.classification(),
      self.sgd(self.warmed_up(schedule, nb_steps)),
      nb_steps=nb_steps,
    )

  def _measure(self) -> None:
    model = self.in_float32(self.model)
    measured = measuring.measure(
      model,
      self.helper,
      self.run_config,
      self.save_path_eval,
      quantized=self.quantized,
      post_training_accuracy=self.state.get('post_training_accuracy'),
    )
    blocks = {'compressed': measured.block}
    measuring.add_latency(blocks, {'compressed': self.save_path_eval}, self.run_config)
    self.state['report'] = reporting.build_report(
      self,
      original=measured.block,
      compressed=measured.block,
      counts=(count(model), count(model)),
      layer_sparsities=measuring.layer_sparsities(model),
      parity=measured.export.parity_figures(),
    )
