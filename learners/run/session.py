"""A run's state in memory and on disk: checkpoints, resuming, times."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run import state
from secateurs.learners.run.configs import FULL_PREC
from secateurs.learners.run.console import say
from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.phase_times import PhaseTimes
from secateurs.learners.run.preflight import identity
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.state import LearnerState, RunState
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.metrics import MetricsWriter
from secateurs.utils.training.engine.progress import format_seconds
from secateurs.utils.training.models.checkpoints import CheckpointStore, Saved

Groups = Mapping[str, Mapping[str, tf.Variable]]
"""Variables by name, by group: model, extra, optimizer, and further networks."""


class Session:
  """Where a run stands, and how it got there.

  Attributes:
    state: what is saved with every checkpoint.
    saved: the checkpoint that the run was resumed from, if any.
    times: of its phases.
    metrics: writes training curves.
  """

  def __init__(
    self, settings: Settings, files: RunFiles, kind: type[LearnerState], began: float
  ) -> None:
    """Resumes from the last checkpoint, or starts afresh; nothing is written yet.

    Args:
      settings: those of the run.
      files: where it keeps its files.
      kind: what the algorithm remembers.
      began: when this process's part of the run began, in seconds since the epoch.

    Raises:
      UserError: the checkpoint belongs to a run with other flags, or is of another format.
    """
    self.store = CheckpointStore(files.save_path)
    self.metrics = MetricsWriter(files.log_dir)
    self.saved: Saved | None = self.store.latest()
    if self.saved is not None and settings.run.restart == 'compression':
      self._set_aside_other_run(settings)
    if self.saved is None:
      self.state = RunState(identity.identity(settings), kind())
    else:
      identity.require_same_run(
        self.saved.state.get('identity', {}), settings, str(self.saved.prefix)
      )
      self.state = state.from_checkpoint(self.saved, kind)
    self.times = PhaseTimes(self.state.times, began)

  def _set_aside_other_run(self, settings: Settings) -> None:
    """Moves the checkpoints of a run with other flags out of the way."""
    same = not identity.differences(self.saved.state.get('identity', {}), settings)
    if same or settings.learner == FULL_PREC:
      return
    parent = self.store.prefix.parent
    taken = distributed.from_chief(lambda: [path.name for path in parent.iterdir()])
    number = next(n for n in itertools.count(1) if f'before_restart_{n}' not in taken)
    folder = parent / f'before_restart_{number}'
    self.store.set_aside(folder)
    say(
      f'The compression with other flags was moved to {folder}; starting again from the baseline.'
    )
    self.saved = self.store.latest()

  def is_done(self, phase: str) -> bool:
    """Whether a phase was finished."""
    return phase in self.state.done

  def finish(self, phase: str) -> None:
    """Notes that a phase was finished."""
    self.state.done.append(phase)

  def reopen(self, phase: str) -> None:
    """Has a finished phase run again."""
    self.state.done.remove(phase)

  def starts_over(self, phase: str) -> bool:
    """Whether a phase begins at its first step, and not after a checkpoint inside it."""
    return self.state.phase != phase or not self.state.step

  def save(self, phase: str, step: int, groups: Groups) -> None:
    """Writes a checkpoint of this moment."""
    self.times.read()
    self.state.phase, self.state.step = phase, step
    distributed.broadcast_variables(v for group in groups.values() for v in group.values())
    self.store.save(groups, state.to_json(self.state))

  def restore(self, groups: Groups) -> None:
    """Assigns the values of the checkpoint that the run was resumed from."""
    for name, variables in groups.items():
      self.saved.restore(variables, group=name)

  def restore_inside(self, phase: str, groups: Groups) -> int:
    """Restores what a training needs if the run was saved inside this phase; returns the steps done."""
    if self.saved is None or self.state.phase != phase or self.is_done(phase):
      return 0
    if self.state.step:
      self.restore(groups)
    return self.state.step

  def describe(self) -> str:
    """What was done so far, for a line to the user."""
    now = self.state
    parts = [f'{phase} ({format_seconds(self.times.seconds(phase))})' for phase in now.done]
    if now.phase not in now.done:
      parts.append(f'{now.step} steps of phase {now.phase}')
    return ', '.join(parts) or 'nothing yet'


def optimizer_variables(optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Variable]:
  """The variables of an optimizer by name."""
  # The learning rate is a function of the iterations where it is a schedule; where it is a
  # variable it is one of these.
  return {v.name.split(':')[0]: v for v in optimizer.variables}
