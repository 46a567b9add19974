"""One training: a phase's steps with all hooks, resumable, with progress, summaries and checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.preflight.budget import Budget, pieces_note
from secateurs.learners.run.session import Groups, Session, optimizer_variables
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training.rates import Rates
from secateurs.utils.graph.counts.memory import map_bytes
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.averages import Averages, decay_of
from secateurs.utils.training.engine.callbacks import PhaseCallbacks
from secateurs.utils.training.engine.events import Event
from secateurs.utils.training.engine.hooks import Constraint, Hooks, WeightDecay
from secateurs.utils.training.engine.progress import Progress
from secateurs.utils.training.int8.simulation import simulated
from secateurs.utils.training.models.batch_norm import averaging_slower, batch_norms
from secateurs.utils.training.models.quantization import zero_masks
from secateurs.utils.training.models.weights import leaf_layers, named_weights

AVERAGES = 'averages'
"""Group of a checkpoint that holds the averages of weights."""

Save = Callable[[str, int, Groups], None]


class Trainer:
  """Trains networks of one run; `engine.hooks` documents the order of what happens in a step."""

  def __init__(
    self,
    settings: Settings,
    rates: Rates,
    session: Session,
    save: Save,
    extra_variables: Callable[[], Mapping[str, tf.Variable]],
    budget: Budget,
  ) -> None:
    """Keeps what all trainings of a run share.

    Args:
      settings: those of the run.
      rates: batch size, weight decay.
      session: what a training resumes from, times and metrics.
      save: writes a checkpoint inside a phase, after so many steps, with further variables by group.
      extra_variables: those that processes must agree in beside the network's.
      budget: of memory, from which follows in how many pieces a batch is run.
    """
    self._budget = budget
    self._settings, self._rates, self._session = settings, rates, session
    self._save, self._extra_variables = save, extra_variables

  def fit(
    self,
    phase: str,
    objective: loop.Objective,
    optimizer: keras.optimizers.Optimizer,
    network: keras.Model,
    *,
    nb_steps: int,
    augment: str = 'all',
    variables: Sequence[tf.Variable] | None = None,
    hooks: Hooks | None = None,
    averaged: bool = False,
  ) -> None:
    """Trains for some steps, or for what is left of them after an interruption.

    Args:
      phase: name of the phase; its order of samples follows from it and the seed.
      objective: what is minimised.
      optimizer: a fresh one; its slots are restored if the run was saved inside this phase.
      network: what the objective runs, which need not be the model that is saved.
      nb_steps: steps of the whole phase.
      augment: what may happen to training images.
      variables: what is trained; default: all trainable variables of the network.
      hooks: what is added to the steps; the weight decay of the run comes first.
      averaged: whether the network ends in averages of its weights, if --average_ft asks for them.

    Raises:
      DivergenceError: a loss that is not finite.
    """
    hooks = hooks or Hooks()
    nb_pieces = self._pieces(phase, objective, network)
    variables = list(network.trainable_variables if variables is None else variables)
    constraints = [*hooks.constraints, *self._zeros(network, hooks)]
    averages = self._averages(network, constraints, nb_steps) if averaged else None
    step = loop.TrainStep(
      objective,
      variables,
      optimizer,
      penalties=[*weight_decay(self._rates, network), *hooks.penalties],
      constraints=constraints,
      compression=self._settings.training.grad_compression,
      nb_pieces=nb_pieces,
      batch_size=self._rates.batch_size_total,
      averages=averages,
    )
    inside = {'optimizer': optimizer_variables(optimizer)}
    if averages is not None:
      inside[AVERAGES] = averages.variables
    start = self._session.restore_inside(phase, inside)
    distributed.broadcast_variables(
      [*network.weights, *self._extra_variables().values(), *optimizer.variables]
    )
    if averages is not None and not start:
      averages.begin()
    if distributed.is_chief():
      self._session.metrics.forget(phase, start)
    progress = self._progress(phase, start, nb_steps)
    callbacks = self._callbacks(phase, network, start, nb_steps)
    events = [
      *hooks.events,
      self._summaries(phase, step, progress, hooks, nb_steps),
      *callbacks.events(),
      self._checkpoints(phase, inside, progress),
    ]
    callbacks.begin()
    with (
      self._session.times.running(phase),
      contextlib.closing(progress),
      averaging_slower(network, nb_pieces),
    ):
      loop.run(
        step,
        self._batches(phase, start, augment),
        start=start,
        stop=nb_steps,
        phase=phase,
        events=events,
        progress=progress.update,
      )
    if averages is not None:
      averages.take()
    callbacks.end()
    distributed.mean_variables(network.non_trainable_weights)
    self._session.times.note_training(phase, nb_steps, progress.images_per_sec)

  def _pieces(self, phase: str, objective: loop.Objective, network: keras.Model) -> int:
    """In how many pieces a batch is run: as many as when the training began, or more."""
    maps = map_bytes(flatten_model(simulated(network)))
    teacher = getattr(objective, 'teacher', None)
    also = 0 if teacher is None else map_bytes(flatten_model(teacher)).inference
    size, known = self._rates.batch_size, self._session.state.pieces
    found = self._budget.pieces(maps, size, also=also)
    found = distributed.from_chief(lambda: max(found, known.get(phase, 1)))
    if found > 1:
      known[phase] = found
      say(pieces_note(size, found, has_norms=bool(batch_norms(network))))
    return found

  def _zeros(self, network: keras.Model, hooks: Hooks) -> list[Constraint]:
    """What keeps the zeros that the network came with, except for kernels whose masks may change."""
    if not (self._settings.training.keep_zeros and self._session.state.input_zeros):
      return []
    masks = zero_masks(network, [c for c in hooks.constraints if getattr(c, 'changes', False)])
    return [] if masks is None else [masks]

  def _averages(
    self, network: keras.Model, constraints: Sequence[Constraint], nb_steps: int
  ) -> Averages | None:
    config = self._settings.training
    if config.average_ft == 'none':
      return None
    decay = decay_of(config.average_ft, nb_steps, most=config.ema_decay, ratio=config.swa_ratio)
    return Averages(named_weights(network), constraints, decay)

  def _batches(self, phase: str, start: int, augment: str) -> tf.data.Dataset:
    return self._settings.helper.train_batches(
      self._rates.batch_size,
      self._settings.stream_seed(phase),
      start,
      augment=augment,
      shard=distributed.shard(),
    )

  def _progress(self, phase: str, start: int, stop: int) -> Progress:
    task = self._settings.helper.task
    return Progress(
      phase,
      start,
      stop,
      self._rates.batch_size_total,
      shown=distributed.is_chief(),
      metrics=task.user_metrics,
      percent=task.percent_metrics,
    )

  def _callbacks(self, phase: str, network: keras.Model, start: int, stop: int) -> PhaseCallbacks:
    helper = self._settings.helper
    return PhaseCallbacks(
      helper.callbacks,
      network,
      phase,
      start=start,
      stop=stop,
      steps_per_epoch=helper.nb_samples('train') / self._rates.batch_size_total,
      say=say,
    )

  def _summaries(
    self, phase: str, step: loop.TrainStep, progress: Progress, hooks: Hooks, stop: int
  ) -> Event:
    nb_samples, batch_size = (
      self._settings.helper.nb_samples('train'),
      self._rates.batch_size_total,
    )

    def summary(done: int, means: dict[str, float]) -> None:
      if not distributed.is_chief():
        return
      values = {**means, **hooks.metrics()}
      progress.summary(done, values)
      rates = {'lrn_rate': step.learning_rate, 'images_per_sec': progress.images_per_sec or None}
      epoch = done * batch_size / nb_samples
      self._session.metrics.write(phase, done, {'epoch': epoch, **values, **rates})

    return Event(summary, every=self._settings.run.summ_step, at=[stop])

  def _checkpoints(self, phase: str, inside: Groups, progress: Progress) -> Event:
    def checkpoint(done: int, means: dict[str, float]) -> None:
      del means
      self._session.times.note_training(phase, done, progress.images_per_sec)
      self._save(phase, done, inside)

    return Event(checkpoint, every=self._settings.run.save_step)


def weight_decay(rates: Rates, network: keras.Model) -> list[WeightDecay]:
  """The run's weight decay on a network: on all trainable variables but those of normalisation."""
  if not rates.weight_decay:
    return []
  decayed = [
    variable
    for layer in leaf_layers(simulated(network))
    if 'Normalization' not in type(layer).__name__
    for variable in layer.trainable_weights
  ]
  return [WeightDecay(rates.weight_decay, decayed)]
