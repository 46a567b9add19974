"""Passes of pressure, cut and fine-tuning: their steps, and what is said about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.pressure.pressing import cumulative
from secateurs.learners.pressure.rp_config import SUBGRADIENT, RpConfig
from secateurs.learners.pressure.rp_state import RpState
from secateurs.learners.run.console import say
from secateurs.learners.run.training.rates import Rates
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.masks import Masks

_NB_PROBES, _MIN_STEPS = 200, 100


@dataclasses.dataclass(frozen=True)
class Steps:
  """Training steps of each pass.

  Attributes:
    press: under the penalty.
    tune: without it, after the cut.
  """

  press: list[int]
  tune: list[int]


def split(total: int, press_ratio: float, nb_passes: int, from_scratch: int | None = None) -> Steps:
  """Splits training steps into passes of equal length.

  Args:
    total: steps of all passes.
    press_ratio: fraction of them under the penalty, in [0, 1].
    nb_passes: number of passes.
    from_scratch: steps of the first pass under the penalty, where it trains random weights; they come
      on top.
  """
  press = parts(round(press_ratio * total), nb_passes)
  if from_scratch is not None:
    press = [from_scratch, *parts(round(press_ratio * total), nb_passes - 1)]
  rest = total - sum(press[1:] if from_scratch is not None else press)
  return Steps(press, parts(rest, nb_passes))


def parts(total: int, number: int) -> list[int]:
  """Splits a number of steps into nearly equal parts."""
  return [total * (i + 1) // number - total * i // number for i in range(number)]


class Course:
  """How long, how fast and how strongly a run trains under its penalty."""

  def __init__(self, config: RpConfig, rates: Rates, *, planned: bool = False) -> None:
    """Keeps what it is given; `planned`: whether a plan stands for the passes."""
    self._config, self._rates, self._planned = config, rates, planned
    scratch = rates.baseline_steps() if config.from_scratch else None
    total = rates.fine_tune_steps()
    self.steps = split(total, config.press_ratio, config.nb_passes, scratch)

  def require_sgd(self) -> None:
    """Checks that the optimizer takes a sub-gradient as it is.

    Raises:
      UserError: the model was compiled with one that divides gradients by their size.
    """
    config, optimizer = self._config, self._rates.compiled_optimizer
    if config.update != SUBGRADIENT or optimizer is None or self._whole(config.nb_passes):
      return
    if optimizer.kind != 'SGD':
      raise UserError(
        f'--rp_update subgradient adds a slope of known size to the gradient, which {optimizer.kind}, '
        'with which the model was compiled, divides by its size: set --rp_update proximal or '
        '--optimizer_ft sgd.'
      )

  def optimizer(self, number: int, masks: Masks) -> keras.optimizers.Optimizer:
    """That of the training under the penalty in pass `number`."""
    if self._whole(number):
      return self._rates.sgd(self._rates.baseline_schedule())
    nb_steps = self.steps.press[number - 1]
    return self._rates.fine_tune_optimizer(nb_steps, masks, constant=True)

  @property
  def last_steps(self) -> int:
    """Steps of the slim network."""
    return self._rates.fine_tune_steps() if self._planned else self.steps.tune[-1]

  def travelled(self, number: int) -> float:
    """Sum of its learning rates."""
    nb_steps = max(self.steps.press[number - 1], 1)
    if self._whole(number):
      return sum_of_rates(self._rates.baseline_schedule(), nb_steps)
    return self._rates.fine_tune_peak() * nb_steps

  def strength(self, number: int) -> float:
    """The relative strength; less in short trainings, which have no time to make up for a loss."""
    return self._config.strength * min(self.steps.press[number - 1] / _MIN_STEPS, 1.0)

  def _whole(self, number: int) -> bool:
    return number == 1 and self._config.from_scratch


def sum_of_rates(schedule: Callable[[tf.Tensor], tf.Tensor], nb_steps: int) -> float:
  """Sum of a schedule's rates over a training, from those of evenly spaced steps."""
  probes = np.unique(np.linspace(0, nb_steps - 1, min(nb_steps, _NB_PROBES)).astype(int))
  return float(np.mean([float(schedule(tf.constant(int(step)))) for step in probes])) * nb_steps


def say_cut(kept: Mapping[str, np.ndarray], blocks: Sequence[str]) -> None:
  """Prints what a cut leaves."""
  for name, mask in kept.items():
    if mask.any() and not mask.all():
      say(f'cut  {name}: {int(mask.sum())} of {len(mask)} channels stay')
  for block in blocks:
    say(f'cut  {block}: the residual branch goes as a whole')


def figures(state: RpState) -> dict[str, Any]:
  """What the report's page and file have of the passes."""
  drawn = {
    f'pass {number}, {moment}, {kind}': cumulative(histogram)
    for number, one in enumerate(state.passes, 1)
    for moment in ('before', 'after')
    for kind, histogram in one.get(moment, {}).items()
  }
  return {'passes': state.passes, 'blocks': state.blocks, 'norms': drawn}


def notes(state: RpState) -> list[str]:
  """Sentences for the report."""
  found = []
  if state.blocks:
    found.append(f'Residual branches that went as a whole: {", ".join(state.blocks)}.')
  saved = [note for one in state.passes for note in one.get('notes', [])]
  if saved:
    found.append(f'Layers that the floor saved: {"; ".join(saved)}.')
  if state.zero_shapes is not None:
    found.append(
      f'{state.zero_shapes:.1%} of the positions of the kernels that are left are zero over all '
      'filters; they are not sliced away, and make the file smaller only where zeros are packed.'
    )
  if state.zero_kernels is not None:
    found.append(
      f'{state.zero_kernels:.1%} of the k x k kernels that are left are zero; they are not sliced '
      'away, and make the file smaller only where zeros are packed.'
    )
  return found
