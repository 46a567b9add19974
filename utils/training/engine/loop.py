"""The compiled training loop: many steps a call, no Python between them.

A `TrainStep` is one optimizer step on one objective. `run` drives it from step `start` to step `stop`
and interrupts only where something is due: a structural event, a summary, a checkpoint. Between two
such events the steps run inside one compiled loop that draws its batches from tf.data itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import tensorflow as tf
import tf_keras as keras

from secateurs.utils import interrupts
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed, tally
from secateurs.utils.training.engine.averages import Averages
from secateurs.utils.training.engine.events import Event
from secateurs.utils.training.engine.hooks import Constraint, Penalty
from secateurs.utils.training.engine.pieces import value_and_gradients

_SECONDS_PER_CALL = 0.5  # Ctrl-C and the progress bar wait no longer than about this.


class Objective(Protocol):
  """What is minimised: maps a batch to a scalar loss and scalar float32 metrics to show.

  Attributes:
    metric_names: names of the metrics.
  """

  metric_names: Sequence[str]

  def __call__(self, batch: tuple) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Computes loss and metrics in training mode."""


class DivergenceError(UserError):
  """The loss became infinite or NaN; the weights in memory are lost, those on disk are not."""


def way_on(phase: str) -> str:
  """How a run continues with another learning rate, which a checkpoint of this one would refuse."""
  if phase == 'train':
    return 'with --lrn_rate_init, in another --run_dir, as this one has a run at the old rate'
  return (
    'with --lrn_rate_ft or the flag of this phase, and add --restart compression, which keeps the '
    'baseline'
  )


class TrainStep:
  """One optimizer step, compiled on first use; `hooks` documents the order of its parts.

  With several processes gradients, loss and metrics are means over all of them, so that every process
  makes the same step and sees the same divergence.
  """

  def __init__(
    self,
    objective: Objective,
    variables: Sequence[tf.Variable],
    optimizer: keras.optimizers.Optimizer,
    *,
    penalties: Sequence[Penalty] = (),
    constraints: Sequence[Constraint] = (),
    compression: str = 'none',
    nb_pieces: int = 1,
    batch_size: float = 0,
    averages: Averages | None = None,
  ) -> None:
    """Sets up the step and the optimizer's slots.

    Args:
      objective: what is minimised.
      variables: what is trained.
      optimizer: makes the steps.
      penalties: add their terms to the gradients.
      constraints: applied after the optimizer, in this order.
      compression: how gradients travel between processes, see `distributed.mean`.
      nb_pieces: how many pieces a batch is run in, see `pieces`.
      batch_size: images of a batch of all processes, which are counted, see `tally`; 0 counts none.
      averages: take in the weights after each step, if any do.
    """
    self.optimizer = optimizer
    self._objective = objective
    self._variables = list(variables)
    self._penalties, self._constraints = tuple(penalties), tuple(constraints)
    self._compression, self._nb_pieces = compression, nb_pieces
    self._batch_size, self._averages = batch_size, averages
    optimizer.build(self._variables)
    self._run = tf.function(self._run_steps)

  @property
  def learning_rate(self) -> float:
    """The rate of the latest step, or of the first one before any."""
    return float(self.optimizer.learning_rate)

  def run(self, batches: Iterator, nb_steps: int) -> tuple[int, dict[str, float]]:
    """Runs up to `nb_steps` steps; stops after the first whose loss is not finite.

    Returns:
      How many of the steps had a finite loss, and the means of loss and metrics over those.
    """
    with distributed.explained():
      nb_done, totals = self._run(batches, tf.constant(nb_steps))
      nb_done = int(nb_done)
    tally.trained(nb_done * self._batch_size)
    return nb_done, {name: float(total) / max(nb_done, 1) for name, total in totals.items()}

  def _step(self, batch: tuple) -> dict[str, tf.Tensor]:
    loss, metrics, gradients = value_and_gradients(
      self._objective, self._variables, batch, self._nb_pieces
    )
    gradients, values = self._averaged(gradients, {'loss': tf.cast(loss, tf.float32), **metrics})
    for penalty in self._penalties:
      gradients = _added(gradients, penalty(self._variables))
    self.optimizer.apply_gradients(zip(gradients, self._variables, strict=True))
    # With a schedule the optimizer's rate is a variable that it sets as it steps: read it afterwards.
    rate = tf.convert_to_tensor(self.optimizer.learning_rate, tf.float32)
    for constraint in self._constraints:
      constraint.apply(rate)
    if self._averages is not None:
      self._averages.update(self.optimizer.iterations - 1)
    return values

  def _averaged(
    self, gradients: list[tf.Tensor | None], values: dict[str, tf.Tensor]
  ) -> tuple[list[tf.Tensor | None], dict[str, tf.Tensor]]:
    """Means over all processes; loss and metrics travel as they are."""
    if distributed.size() == 1:
      return gradients, values
    present = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    if self._compression == 'none':
      *present, packed = distributed.mean([*present, tf.stack(list(values.values()))])
    else:
      (packed,) = distributed.mean([tf.stack(list(values.values()))])
      present = distributed.mean(present, self._compression)
    means = iter(present)
    gradients = [None if g is None else next(means) for g in gradients]
    return gradients, dict(zip(values, tf.unstack(packed), strict=True))

  def _run_steps(
    self, batches: Iterator, nb_steps: tf.Tensor
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    totals = {name: tf.constant(0.0) for name in ('loss', *self._objective.metric_names)}
    nb_done, finite = tf.constant(0), tf.constant(True)
    while finite and nb_done < nb_steps:
      # Steps that run at once would each hold their feature maps.
      tf.autograph.experimental.set_loop_options(parallel_iterations=1)
      values = self._step(next(batches))
      finite = tf.math.is_finite(values['loss'])
      totals = {name: totals[name] + tf.where(finite, values[name], 0.0) for name in totals}
      nb_done += tf.cast(finite, tf.int32)
    return nb_done, totals


def _added(
  gradients: Sequence[tf.Tensor | None], terms: Sequence[tf.Tensor | None]
) -> list[tf.Tensor | None]:
  """Gradients with a penalty's terms; a variable that the loss does not reach is not penalised."""
  return [
    g if g is None or term is None else g + term for g, term in zip(gradients, terms, strict=True)
  ]


def run(
  step: TrainStep,
  batches: tf.data.Dataset,
  *,
  start: int,
  stop: int,
  phase: str,
  events: Sequence[Event] = (),
  progress: Callable[[int, Mapping[str, float]], None] | None = None,
) -> None:
  """Trains from step `start` to step `stop`.

  Args:
    step: what one step does.
    batches: endless batches, of which the first belongs to step `start`.
    start: steps already done.
    stop: steps done at the end.
    phase: name for error messages.
    events: what is due after which steps; all due ones fire in the order given.
    progress: called with the steps done and the latest means, about twice a second.

  Raises:
    DivergenceError: a loss that is not finite. Nothing fires after such a step.
  """
  iterator = iter(batches)
  done, chunk = start, 1
  while done < stop:
    interrupts.check()
    due = [f for event in events if (f := event.following(done)) is not None]
    wanted = min([stop, done + chunk, *due]) - done
    began = time.perf_counter()
    nb_finite, means = step.run(iterator, wanted)
    seconds = time.perf_counter() - began
    if nb_finite < wanted:
      raise DivergenceError(
        f'The loss became infinite or NaN in phase {phase} at step {done + nb_finite + 1} with '
        f'learning rate {step.learning_rate:.3g}: lower the learning rate ({way_on(phase)}); the '
        'last good checkpoint was kept.'
      )
    if done > start:  # The first call compiles; it says nothing about speed.
      chunk = max(1, min(2 * chunk, int(_SECONDS_PER_CALL * wanted / max(seconds, 1e-6))))
    done += wanted
    for event in events:
      event.feed(wanted, means)
    if progress is not None:
      progress(done, means)
    for event in events:
      if event.following(done - 1) == done:
        event.fire(done)
