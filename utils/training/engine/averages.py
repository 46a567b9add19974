"""Averages of weights over the steps of a training, which replace the weights at its end.

After step number t, counted from zero, the average a of a weight w becomes

  a <- d a + (1 - d) w

with one of two d:

- `ema_decay`, an exponential moving average: d = min(decay, (1 + t) / (10 + t)). While the second term
  is the smaller one, the mean age of the weights in the average is a tenth of the steps so far, so that
  a short training does not keep weights of its beginning.
- `swa_decay`, the plain mean over the last n steps: d = k / (k + 1) after k of them, 0 before (Izmailov
  et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv:1803.05407).

Deviations of the second: the paper averages once an epoch, at a constant or cyclic learning rate; here
every step counts, at the rates of the training. Statistics of batch normalisation are averaged as the
weights are; a phase of the run re-estimates them where that scores better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from secateurs.utils.training.engine.hooks import Constraint
from secateurs.utils.training.engine.shadow import ShadowWeights

Decay = Callable[[tf.Tensor], tf.Tensor]
"""Maps the number of steps done before this one, scalar float32, to what is kept of an average."""


def ema_decay(most: float) -> Decay:
  """The decay of an exponential moving average, which rises to `most`, in [0, 1)."""
  return lambda step: tf.minimum(tf.constant(most, tf.float32), (1.0 + step) / (10.0 + step))


def swa_decay(nb_steps: int, ratio: float) -> Decay:
  """The decay that gives the plain mean over the last `ratio`, in (0, 1], of `nb_steps` steps."""
  first = nb_steps - max(round(ratio * nb_steps), 1)

  def decay(step: tf.Tensor) -> tf.Tensor:
    before = tf.maximum(step - float(first), 0.0)
    return before / (before + 1.0)

  return decay


def decay_of(kind: str, nb_steps: int, *, most: float, ratio: float) -> Decay:
  """The decay of a kind, `ema` or `swa`, over a training of `nb_steps` steps."""
  return ema_decay(most) if kind == 'ema' else swa_decay(nb_steps, ratio)


class Averages:
  """Averages of a network's weights and, of rounded kernels, of the exact ones.

  Attributes:
    variables: the averages by name, which a checkpoint inside the training must hold.
  """

  def __init__(
    self, weights: Mapping[str, tf.Variable], constraints: Sequence[Constraint], decay: Decay
  ) -> None:
    """Starts at the weights as they are.

    Args:
      weights: all of the network, by name; those that are not floating are left alone.
      constraints: of the training's steps, which the network must fulfil with its averages, too.
      decay: how much of the averages each step keeps.
    """
    self._constraints, self._decay = tuple(constraints), decay
    shadows = [one for one in self._constraints if isinstance(one, ShadowWeights)]
    rounded = {kernel.ref() for one in shadows for kernel in one.kernels.values()}
    averaged = {name: weight for name, weight in weights.items() if weight.ref() not in rounded}
    for one in shadows:
      averaged |= one.exact()
    self._averaged = {name: one for name, one in averaged.items() if one.dtype.is_floating}
    self.variables = {
      name: tf.Variable(tf.convert_to_tensor(one), trainable=False, dtype=one.dtype)
      for name, one in self._averaged.items()
    }

  def begin(self) -> None:
    """Starts again at the weights as they are."""
    for name, average in self.variables.items():
      average.assign(tf.convert_to_tensor(self._averaged[name]))

  def update(self, step: tf.Tensor) -> None:
    """Takes in the weights after a step; runs in graph mode, after all constraints.

    Args:
      step: number of steps before it, scalar.
    """
    new = 1.0 - self._decay(tf.cast(step, tf.float32))
    for name, average in self.variables.items():
      change = tf.convert_to_tensor(self._averaged[name]) - average
      average.assign_add(tf.cast(new, average.dtype) * change)

  def take(self) -> None:
    """Gives the network its averages: masked weights are zero, and rounded ones are rounded again."""
    for name, average in self.variables.items():
      self._averaged[name].assign(average)
    for constraint in self._constraints:
      if isinstance(constraint, ShadowWeights):
        constraint.round()
      else:
        constraint.apply(tf.constant(0.0))
