"""Which input channels matter by the gradients of a loss: pure functions.

With G the gradient of the loss by a kernel W [..., c, o], the score of input channel k is the Frobenius
norm ||G_k||_F of what belongs to it (Zhuang et al. 2018, section 3.3). One gradient holds the scores of
all channels, those that are masked included: a masked channel's rows of W are zero, those of G are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

GREEDY = ('remove', 'add')


def channel_norms(
  gradients: Sequence[tf.Tensor], elements: Sequence[np.ndarray], nb_channels: int
) -> tf.Tensor:
  """Frobenius norms of gradients by channel, summed over the layers that read the channels.

  Args:
    gradients: one for each layer's kernel, float [..., inputs, outputs].
    elements: for each layer an int array [inputs]: which channel each input is, or -1.
    nb_channels: how many channels there are.

  Returns:
    float32 [nb_channels].
  """
  total = tf.zeros([nb_channels])
  for gradient, element in zip(gradients, elements, strict=True):
    squares = tf.square(tf.cast(gradient, tf.float32))
    axes = [axis for axis in range(squares.shape.rank) if axis != squares.shape.rank - 2]
    rows = tf.reduce_sum(squares, axes)
    total += tf.sqrt(tf.math.unsorted_segment_sum(rows, tf.constant(element), nb_channels))
  return total


def next_mask(scores: np.ndarray, mask: np.ndarray, nb_change: int, greedy: str) -> np.ndarray:
  """One greedy step.

  Args:
    scores: [c], greater is better.
    mask: bool [c], the channels that are on.
    nb_change: how many change.
    greedy: `remove` turns the worst off of those that are on, `add` the best on of those that are
      off; of equal scores the first channel stays or comes.

  Returns:
    A new mask.
  """
  if greedy == 'remove':
    candidates = np.flatnonzero(mask)
    chosen = candidates[np.argsort(-scores[candidates], kind='stable')][-nb_change:]
  else:
    candidates = np.flatnonzero(~mask)
    chosen = candidates[np.argsort(-scores[candidates], kind='stable')][:nb_change]
  changed = mask.copy()
  changed[chosen] = greedy == 'add'
  return changed
