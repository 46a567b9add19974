"""The base of all learners: a list of phases, each of which can be resumed.

A learner is composed of `Settings` (what it was made with), `RunFiles` (where its files are), `Rates`
(steps, rates and optimizers), a `Session` (state and checkpoints) and a `Trainer`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.algorithm import Algorithm
from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.run.console import say
from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.preflight import checks, dry_run, estimate, identity, lock
from secateurs.learners.run.preflight.budget import Budget, extra_bytes, limit_of, variable_bytes
from secateurs.learners.run.session import Groups, Session
from secateurs.learners.run.settings import FLOAT32_NOTE, Settings
from secateurs.learners.run.state import LearnerState
from secateurs.learners.run.training import distillation
from secateurs.learners.run.training.rates import Rates
from secateurs.learners.run.training.trainer import AVERAGES, Trainer
from secateurs.utils import memory
from secateurs.utils.config import Config
from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.models.weights import named_weights
from secateurs.utils.training.tasks.objectives import TaskObjective


class Learner(Algorithm):
  """Runs an algorithm's phases.

  `run_phases` runs them in order, saves a checkpoint after each and inside long ones; a second call, in
  whatever process, resumes from the last checkpoint.

  Attributes:
    settings: what the learner was made with; `helper` and `config` are parts of it.
    files: where its files are.
    rates: steps, learning rates and optimizers.
    session: state and checkpoints, once the run was resumed or begun.
    model: the network that the phases work on, in the precision of the training.
    teacher: with --enbl_dst, the network that is learned from, once a phase has asked for it.
    estimated: bytes that the run was expected to need.
    began: when the process began whose time counts as the run's, in seconds since the epoch; None for
      the moment in which the run is resumed or begun.
  """

  def __init__(
    self,
    helper: Helper,
    config: Config | None = None,
    *,
    run: RunConfig | None = None,
    training: TrainConfig | None = None,
    distillation: DistillConfig | None = None,
    quantization: QuantConfig | None = None,
    method: str | None = None,
  ) -> None:
    """Keeps what it is given; no work is done.

    Args:
      helper: network, data, task and recipe.
      config: the learner's own hyper-parameters; default: `Config()`.
      run: files, seed, precision, export.
      training: how networks are trained.
      distillation: whether and how a teacher helps.
      quantization: whether and how training in 8 bits follows.
      method: name of the published method that was asked for, for the report.
    """
    self.settings = Settings(
      self.name,
      helper,
      self.Config() if config is None else config,
      run or RunConfig(),
      training or TrainConfig(),
      distillation or DistillConfig(),
      quantization or QuantConfig(),
      method,
    )
    self.helper, self.config = helper, self.settings.config
    self.files = RunFiles(self.settings, self.is_original)
    self.rates = Rates(self.settings, self.fine_tune_factor)
    self.session: Session | None = None
    self.model: keras.Model | None = None
    self.teacher: keras.Model | None = None
    self.began: float | None = None
    self.estimated = 0

  # The run.

  @property
  def state(self) -> LearnerState:
    """What the algorithm remembers, an object of `State`."""
    return self.State() if self.session is None else self.session.state.algorithm

  def run_phases(self, until: str | None = None) -> None:
    """Runs the phases that have not been run yet, up to and with one of them.

    Raises:
      UserError: bad data or files, a diverging loss, or a checkpoint of another run.
    """
    self.resume()
    self.reopen()
    phases = self.phases()
    for number, phase in enumerate(phases, 1):
      if not self.session.is_done(phase.name):
        title = f': {phase.describe()}' if phase.describe() else ''
        say(f'Phase {number} of {len(phases)}, {phase.name}{title}')
        with self.session.times.running(phase.name):
          phase.run()
        memory.release()
        self.session.finish(phase.name)
        self.save(phase.name, 0)
      if phase.name == until:
        return

  def dry_run(self) -> float:
    """Checks and prints what a run would do, with an estimate of its time; nothing is trained.

    Returns:
      Seconds that what is left would take, as far as it can be known.

    Raises:
      UserError: as of `run_phases`, as far as it can be known before all work.
    """
    try:
      self.resume()
      self.reopen()
      phases, done = self.phases(), self.session.state.done
      dry_run.describe(self.settings, phases, done)
      left = [phase for phase in phases if phase.name not in done]
      work = [self.work_of(phase.name) for phase in left]
      return dry_run.estimate(self.settings, self.rates, self.model, left, work)
    finally:
      lock.release(self.files.save_path.parent)

  def reopen(self) -> None:
    """Has finished phases run again whose results flags or deleted files make incomplete."""
    for name in self.outdated_phases():
      self.session.reopen(name)

  def resume(self) -> None:
    """Resumes from the last checkpoint, or starts afresh.

    Raises:
      UserError: the checkpoint belongs to a run with other flags, a folder cannot be written, or a flag
        has no effect.
    """
    checks.require_effect(self.settings, self.without_effect)
    identity.require_agreement(self.settings)
    if self.settings.run.enbl_bf16 and not self.settings.bf16:
      say(FLOAT32_NOTE)
    for note in (self.rates.batch_note, *getattr(self.helper, 'own_notes', ())):
      if note:
        say(note)
    distributed.from_chief(self.files.require_writable)  # Fail now rather than after hours.
    lock.acquire(self.files.locked)
    self.session = Session(self.settings, self.files, self.State, self.began or time.time())
    self.model = self.settings.in_training_precision(self.build())
    self.prepare()
    self.budget = Budget(
      limit_of(self.settings.run.max_memory_mb),
      variable_bytes(self.model.weights),
      self.files.save_path.parent,
      self.helper.held_bytes(),
      extra_bytes(self.extra_variables().values()),
    )
    run = self.settings, self.rates, self.session, self.save
    self.trainer = Trainer(*run, lambda: self.extra_variables(), self.budget)
    if self.session.saved is None:
      checks.require_none(checks.problems(self.preflight()))
    needs = self.memory_needs()
    self.estimated = estimate.largest(needs).bytes
    say(estimate.describe(needs, self.budget.limit, self.asked_limit))
    if self.session.saved is None:
      return
    self.session.restore(
      {'model': named_weights(self.model), 'extra': dict(self.extra_variables())}
    )
    self.prepare_networks()
    self.session.restore({name: named_weights(net) for name, net in self.networks().items()})
    say(f'Resuming from {self.session.saved.prefix}: finished are {self.session.describe()}.')

  def save(self, phase: str, step: int, inside: Groups | None = None) -> None:
    """Writes a checkpoint of this moment, and brings all processes to what it contains.

    Args:
      phase: where the run is.
      step: training steps done in it.
      inside: variables of the training that runs, by group; see `Trainer`.
    """
    extra, inside = dict(self.extra_variables()), inside or {}
    groups = {'model': named_weights(self.model), 'extra': extra, **inside}
    further = [variable for variable in extra.values() if not variable.trainable]
    averages = inside.get(AVERAGES, {}).values()
    distributed.mean_variables([*self.model.non_trainable_weights, *further, *averages])
    for name, network in self.networks().items():
      groups[name] = named_weights(network)
      distributed.mean_variables(network.non_trainable_weights)
    self.session.save(phase, step, groups)

  def fit(
    self,
    phase: str,
    objective: loop.Objective,
    optimizer: keras.optimizers.Optimizer,
    *,
    nb_steps: int,
    network: keras.Model | None = None,
    variables: Sequence[tf.Variable] | None = None,
    hooks: Hooks | None = None,
    averaged: bool = False,
  ) -> None:
    """Trains for some steps, or for what is left of them after an interruption; see `Trainer.fit`.

    `network` is what the objective runs; default: the learner's model.
    """
    self.trainer.fit(
      phase,
      objective,
      optimizer,
      self.model if network is None else network,
      nb_steps=nb_steps,
      augment=self.augmentation,
      variables=variables,
      hooks=hooks,
      averaged=averaged,
    )

  def objective(self, network: keras.Model | None = None) -> TaskObjective:
    """What training of a network (default: the model) minimises, with distillation if asked for.

    Raises:
      UserError: there is no teacher, or it cannot teach this network.
    """
    network = self.model if network is None else network
    if self.settings.distillation.enbl_dst and self.teacher is None:
      self.teacher = distillation.load_teacher(self.settings, self.baseline_file())
    return distillation.objective(self.settings, network, self.teacher)
