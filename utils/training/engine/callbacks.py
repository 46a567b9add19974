"""The user's tf_keras callbacks, called from the events of the compiled loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.loop import Event


def checked_callbacks(callbacks: Sequence[object] | None) -> tuple[keras.callbacks.Callback, ...]:
  """The callbacks themselves.

  Raises:
    UserError: one is something else.
  """
  for callback in callbacks or ():
    if not isinstance(callback, keras.callbacks.Callback):
      kind = type(callback)
      raise UserError(
        f'A callback is a {kind.__module__}.{kind.__name__}, but a tf_keras.callbacks.Callback was '
        'expected: derive it from that class (import tf_keras as keras).'
      )
  return tuple(callbacks or ())


class PhaseCallbacks:
  """Callbacks during one phase of training; of several processes the chief's are called.

  In this order: set_params ({phase, epochs, steps}), set_model (the model that is trained, which is not
  compiled), on_train_begin; for each epoch on_epoch_begin and on_epoch_end, with the means over the
  epoch; on_train_end, with those of the last epoch. A phase that ends inside an epoch, or takes less
  than one, ends with a shorter epoch. A phase that is resumed inside an epoch first
  runs the rest of it.

  Nothing is called for single batches, so that steps stay in the compiled loop.
  """

  def __init__(
    self,
    callbacks: Sequence[keras.callbacks.Callback],
    model: keras.Model,
    phase: str,
    *,
    start: int,
    stop: int,
    steps_per_epoch: float,
    say: Callable[[str], None] = print,
  ) -> None:
    """Sets up a phase.

    Args:
      callbacks: the user's.
      model: what is trained.
      phase: its name.
      start: steps done already.
      stop: steps at the end.
      steps_per_epoch: need be no whole number.
      say: prints a sentence.
    """
    self._callbacks = tuple(callbacks) if start < stop and distributed.is_chief() else ()
    self._model, self._phase, self._say = model, phase, say
    self._ends = _epoch_ends(stop, steps_per_epoch) if self._callbacks else []
    self._epoch = sum(end <= start for end in self._ends)
    self._start, self._stop = start, stop
    self._logs: dict[str, float] = {}

  def begin(self) -> None:
    """To be called before the first step."""
    if not self._callbacks:
      return
    params = {
      'verbose': 0,
      'phase': self._phase,
      'epochs': len(self._ends),
      'steps': self._stop,
    }
    for callback in self._callbacks:
      callback.set_params(params)
      callback.set_model(self._model)
    for callback in self._callbacks:
      callback.on_train_begin({})
    self._begin_epoch()

  def events(self) -> list[Event]:
    """What the loop has to fire; nothing without callbacks."""
    return [Event(self._end_epoch, at=self._ends)] if self._callbacks else []

  def end(self) -> None:
    """To be called after the last step."""
    for callback in self._callbacks:
      callback.on_train_end(dict(self._logs))

  def _begin_epoch(self) -> None:
    for callback in self._callbacks:
      callback.on_epoch_begin(self._epoch, {})

  def _end_epoch(self, step: int, means: dict[str, float]) -> None:
    self._logs = dict(means)
    for callback in self._callbacks:
      callback.on_epoch_end(self._epoch, dict(means))
    self._heed_stop()
    self._epoch += 1
    if step < self._stop:
      self._begin_epoch()

  def _heed_stop(self) -> None:
    if self._model.stop_training:
      self._model.stop_training = False
      self._say(
        f'A callback asked to stop {self._phase} after epoch {self._epoch + 1}, which is ignored: '
        'schedules of rates and sparsity run to their end; give fewer epochs instead.'
      )


def _epoch_ends(stop: int, steps_per_epoch: float) -> list[int]:
  """Steps after which epochs end, the last of them the phase's end."""
  ends = {round(number * steps_per_epoch) for number in range(1, int(stop / steps_per_epoch) + 1)}
  return sorted({end for end in ends if 0 < end < stop} | {stop})
