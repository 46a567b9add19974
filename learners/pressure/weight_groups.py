"""Groups of weights that a penalty takes together, and their norms inside a compiled step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
  """Slices of a variable that belong to groups.

  Attributes:
    variable: what is sliced.
    axes: a slice is one place along these axes, counted from the front; () for the whole variable.
    owners: int array [slices], in C order of the axes: the group of each slice, or -1 for none.
    trains: whether a penalty may change the variable; one of a frozen layer counts in norms alone.
  """

  variable: tf.Variable
  axes: tuple[int, ...]
  owners: np.ndarray
  trains: bool = True

  def squares(self) -> tf.Tensor:
    """Sum of squares of each slice, [slices]."""
    others = [axis for axis in range(self.variable.shape.rank) if axis not in self.axes]
    value = tf.convert_to_tensor(self.variable)
    return tf.reshape(tf.reduce_sum(tf.square(value), others), [-1])

  def spread(self, values: tf.Tensor, default: float) -> tf.Tensor:
    """Values [groups] for the slices, of a shape that broadcasts to the variable's."""
    if (self.owners >= 0).all():
      found = tf.gather(values, self.owners)
    else:  # Slices of no group have the number after the last.
      found = tf.gather(tf.concat([values, [default]], 0), self.owners % (values.shape[0] + 1))
    shape = [n if axis in self.axes else 1 for axis, n in enumerate(self.variable.shape)]
    return tf.reshape(found, shape)


class WeightGroups:
  """Groups of weights.

  A weight may be in two groups: a kernel's weight belongs to the channel that it reads and to the one
  that it makes. It is then scaled by both factors, one after the other.

  Attributes:
    parts: slices of variables with the groups that they belong to.
    size: number of groups.
    channels: int array [size]: the channel, counted over all units, that each group belongs to; or -1.
    scales: int array [size]: groups of one number are of comparable size.
  """

  def __init__(
    self, parts: Sequence[Part], channels: np.ndarray, scales: np.ndarray | None = None
  ) -> None:
    """Keeps what it is given; default for `scales`: all are comparable."""
    self.parts = list(parts)
    self.size = len(channels)
    self.channels = channels
    self.scales = np.zeros(self.size, int) if scales is None else scales

  def norms(self) -> tf.Tensor:
    """Euclidean norm of each group, [size]; runs in graph mode."""
    total = tf.zeros([self.size])
    for part in self.parts:
      total += tf.math.unsorted_segment_sum(part.squares(), part.owners, self.size)
    return tf.sqrt(total)

  def scale(self, factors: tf.Tensor) -> None:
    """Multiplies the weights of each group by its factor, [size], if they train; runs in graph mode."""
    for part in self.parts:
      if not part.trains:
        continue
      factor = part.spread(factors, 1.0)
      # A product with zero would leave -0.0 where weights are negative.
      part.variable.assign(tf.where(factor == 0, 0.0, part.variable * factor))

  def terms(self, variables: Sequence[tf.Variable], factors: tf.Tensor) -> list[tf.Tensor | None]:
    """For each variable its weights times their group's factor, [size], and zero outside of groups."""
    found: dict[int, tf.Tensor] = {}
    for part in self.parts:
      term = part.variable * part.spread(factors, 0.0)
      key = id(part.variable)
      found[key] = found[key] + term if key in found else term
    return [found.get(id(variable)) for variable in variables]
