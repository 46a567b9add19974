"""Learning rates as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras


class PiecewiseConstant(keras.optimizers.schedules.LearningRateSchedule):
  """A rate that is multiplied by a factor at given steps.

  rate(t) = initial * decay ** #{b in boundaries : b <= t}
  """

  def __init__(self, initial: float, boundaries: Sequence[float], decay: float = 0.1) -> None:
    super().__init__()
    self.initial, self.boundaries, self.decay = float(initial), tuple(boundaries), float(decay)

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the scalar float32 rate at a step."""
    passed = tf.cast(
      tf.cast(step, tf.float32) >= tf.constant(self.boundaries, tf.float32), tf.float32
    )
    return self.initial * tf.pow(self.decay, tf.reduce_sum(passed))

  def get_config(self) -> dict:
    """Constructor arguments."""
    return {'initial': self.initial, 'boundaries': self.boundaries, 'decay': self.decay}


class GradualWarmUp(keras.optimizers.schedules.LearningRateSchedule):
  """Another schedule, whose rate rises linearly from a fraction of itself to all of it.

  rate(t) = schedule(t) * (share + (1 - share) * min(t / steps, 1))

  Goyal et al. 2017, "Accurate, Large Minibatch SGD" (arXiv:1706.02677), section 2.2: a rate that was
  raised k-fold for a k-fold batch starts at share = 1 / k, the rate of the small batch.
  """

  def __init__(
    self, schedule: keras.optimizers.schedules.LearningRateSchedule, share: float, steps: int
  ) -> None:
    super().__init__()
    self.schedule, self.share, self.steps = schedule, float(share), int(steps)

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the scalar float32 rate at a step."""
    done = tf.minimum(tf.cast(step, tf.float32) / max(self.steps, 1), 1.0)
    return self.schedule(step) * (self.share + (1.0 - self.share) * done)

  def get_config(self) -> dict:
    """Constructor arguments."""
    return {'schedule': self.schedule, 'share': self.share, 'steps': self.steps}


class Cosine(keras.optimizers.schedules.LearningRateSchedule):
  """Half a cosine down to zero.

  rate(t) = peak * (1 + cos(pi * t / n)) / 2
  with n `total` steps (Loshchilov & Hutter 2017, eq. 5 without restarts).
  """

  def __init__(self, peak: float, total: int) -> None:
    super().__init__()
    self.peak, self.total = float(peak), int(total)

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the scalar float32 rate at a step."""
    share = tf.clip_by_value(tf.cast(step, tf.float32) / max(self.total, 1), 0.0, 1.0)
    return self.peak * (0.5 * (1.0 + tf.cos(tf.constant(math.pi) * share)))

  def get_config(self) -> dict:
    """Constructor arguments."""
    return {'peak': self.peak, 'total': self.total}
