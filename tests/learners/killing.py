"""Stops a run as a kill does: nothing in the program catches it."""

import contextlib

import pytest

from secateurs.utils.training.engine import loop


class Killed(BaseException):
  """Stands for a kill."""


@contextlib.contextmanager
def killed(monkeypatch, dies):
  """Within the block a run must be killed: at the training call where `dies(steps)` is true.

  `steps` are the numbers of steps of the calls so far, that one included.
  """
  run, steps = loop.TrainStep.run, []

  def run_or_die(self, batches, nb_steps):
    steps.append(nb_steps)
    if dies(steps):
      raise Killed
    return run(self, batches, nb_steps)

  with monkeypatch.context() as patch:
    patch.setattr(loop.TrainStep, 'run', run_or_die)
    with pytest.raises(Killed):
      yield
