"""Steps, learning rates and optimizers that follow from a run's settings."""

from __future__ import annotations

import math

import tf_keras as keras

from secateurs.learners.run.helper import Optimizer
from secateurs.learners.run.settings import Settings
from secateurs.utils.config import Default
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.engine.muon import Muon
from secateurs.utils.training.engine.schedules import Cosine, GradualWarmUp, PiecewiseConstant

Schedule = keras.optimizers.schedules.LearningRateSchedule

_FEW_STEPS = 10  # Momentum alone takes as many to build up.


class Rates:
  """How long and how fast networks of a run are trained.

  Attributes:
    fine_tune_factor: default peak rate of compression's training, as a fraction of `lrn_rate_init`.
  """

  def __init__(self, settings: Settings, fine_tune_factor: float = 0.1) -> None:
    self._config, self._recipe = settings.training, settings.helper.recipe
    self._settings, self.fine_tune_factor = settings, fine_tune_factor

  @property
  def batch_size(self) -> int:
    """Samples of a training step of one process."""
    if self._config.batch_size:
      return self._config.batch_size
    most = self._settings.helper.nb_samples('train') // distributed.size()
    return max(min(self._recipe.batch_size, most), 1)

  @property
  def batch_note(self) -> str | None:
    """A sentence where the data set is smaller than the recipe's batch."""
    if self._config.batch_size or self.batch_size == self._recipe.batch_size:
      return None
    return (
      f'Batches have {self.batch_size} samples and not the {self._recipe.batch_size} of the recipe, '
      'because there are no more training samples; learning rates are scaled with them.'
    )

  @property
  def batch_size_total(self) -> int:
    """Samples of a training step of all processes."""
    return self.batch_size * distributed.size()

  @property
  def weight_decay(self) -> float:
    """Factor of the L2 term; an optimizer that a model was compiled with has its own, if any."""
    given = self._config.loss_w_dcy
    if given is None and self.compiled_optimizer is not None:
      return 0.0
    return self._recipe.weight_decay if given is None else given

  @property
  def compiled_optimizer(self) -> Optimizer | None:
    """What the user's model was compiled with, where no flag names another optimizer."""
    unset = isinstance(self._config.optimizer_ft, Default)
    return getattr(self._recipe, 'optimizer', None) if unset else None

  @property
  def momentum(self) -> float:
    """Momentum used by SGD and Muon."""
    given = self._config.momentum
    return self._recipe.momentum if given is None else given

  @property
  def lrn_rate_init(self) -> float:
    """Initial rate of a whole training, for this run's batch size."""
    given = self._config.lrn_rate_init
    return self.scaled(self._recipe.lrn_rate if given is None else given)

  def scaled(self, lrn_rate: float) -> float:
    """A learning rate stated for the recipe's batch size, for that of this run's processes."""
    return lrn_rate * self.batch_size_total / self._recipe.batch_size

  def nb_steps(self, nb_epochs: float) -> int:
    """Steps in so many epochs: at least one, unless there are no epochs."""
    steps = round(nb_epochs * self._settings.helper.nb_samples('train') / self.batch_size_total)
    return max(steps, 1) if nb_epochs else 0

  def warmed_up(self, schedule: Schedule, nb_steps: int) -> Schedule:
    """A schedule of scaled rates that starts at the unscaled one, if that is lower."""
    share = self._recipe.batch_size / self.batch_size_total
    steps = round(self._config.warm_up_ratio * nb_steps)
    return GradualWarmUp(schedule, share, steps) if share < 1 and steps else schedule

  def sgd(self, rate: Schedule | float) -> keras.optimizers.SGD:
    """SGD with the run's momentum."""
    return keras.optimizers.SGD(rate, momentum=self.momentum, jit_compile=False)

  def baseline_steps(self) -> int:
    """Steps of a whole training from random weights."""
    return self.nb_steps(self._recipe.nb_epochs * self._config.nb_epochs_rat)

  def baseline_schedule(self) -> Schedule:
    """The rates of a whole training from random weights."""
    recipe, ratio = self._recipe, self._config.nb_epochs_rat
    boundaries = [self.nb_steps(epoch * ratio) for epoch in recipe.decay_epochs]
    schedule = PiecewiseConstant(self.lrn_rate_init, boundaries, recipe.decay)
    return self.warmed_up(schedule, self.baseline_steps())

  # The training of a compressed network.

  def fine_tune_steps(self) -> int:
    """Steps of compression's training."""
    config = self._config
    epochs = config.nb_epochs_ft
    if epochs is None:
      epochs = self._recipe.nb_epochs * config.nb_epochs_rat
    return self.nb_steps(epochs)

  def fine_tune_peak(self) -> float:
    """Peak rate of compression's training, for this run's batch size.

    By default it is the rate that the model was compiled with, times the processes; without one, a
    fraction of the recipe's. With distillation the default is divided by sqrt(1 + loss_w_dst): the
    teacher's gradient comes on top of the labels', and a rate that suits the labels alone makes
    training diverge.
    """
    given = self._config.lrn_rate_ft
    if given is not None:
      return self.scaled(given)
    peak = self.lrn_rate_init * self.fine_tune_factor
    if self.compiled_optimizer is not None:
      peak = self.compiled_optimizer.lrn_rate * distributed.size()
    if self._settings.distillation.enbl_dst:
      peak /= math.sqrt(1.0 + self._settings.distillation.loss_w_dst)
    return peak

  def short_note(self) -> str | None:
    """A sentence where compression's training is so short that it can only do harm."""
    steps = self.fine_tune_steps()
    if not 0 < steps < _FEW_STEPS:
      return None
    return (
      f'Compression trains for {steps} step{"s" if steps > 1 else ""} only (--nb_epochs_ft), in which '
      'the optimizer has hardly begun: expect a score below that of more training.'
    )

  def fine_tune_optimizer(
    self,
    nb_steps: int,
    masks: Masks | None = None,
    peak: float | None = None,
    *,
    constant: bool = False,
  ) -> keras.optimizers.Optimizer:
    """The optimizer of compression's training: its rate is half a cosine down to zero, or constant.

    Muon's steps don't shrink as a greater batch evens out gradients, so that its rate grows with the
    root of the batch only.

    Args:
      nb_steps: steps of the training.
      masks: those that it keeps.
      peak: the highest rate; default: `fine_tune_peak`.
      constant: whether the rate stays at its peak, for a training that another one follows.
    """
    peak = self.fine_tune_peak() if peak is None else peak
    course = PiecewiseConstant(peak, []) if constant else Cosine(peak, nb_steps)
    schedule = self.warmed_up(course, nb_steps)
    if self.compiled_optimizer is not None:
      return self.compiled_optimizer.make(schedule)
    if self._config.optimizer_ft == 'sgd':
      return self.sgd(schedule)
    growth = math.sqrt(self.batch_size_total / self._recipe.batch_size)
    factor = growth * self._config.lrn_rate_muon / peak if peak else 0.0
    return Muon(schedule, kernel_factor=factor, momentum=self.momentum, masks=masks)
