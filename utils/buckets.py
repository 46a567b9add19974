"""How the weights of a kernel are grouped for quantisation: each group has its own grid or codebook."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

KINDS = ('layer', 'channel', 'split')


@dataclasses.dataclass(frozen=True)
class Buckets:
  """The buckets of one kernel as rows of a table; the last row may be filled up with zeros.

  Attributes:
    shape: of the kernel.
    kind: `layer`, one row; `channel`, a row for each output channel; `split`, rows of `size`
      neighbouring weights in C order.
    size: weights of a row of `split`.
    channel_axes: how many of the last axes make the output channels: 1, or 2 for depthwise kernels
      [h, w, inputs, multiplier].
  """

  shape: tuple[int, ...]
  kind: str = 'layer'
  size: int = 256
  channel_axes: int = 1

  @property
  def nb_rows(self) -> int:
    """How many buckets there are."""
    if self.kind == 'layer':
      return 1
    return self._channels if self.kind == 'channel' else -(-self._total // self.size)

  @property
  def _total(self) -> int:
    return math.prod(self.shape)

  @property
  def _channels(self) -> int:
    return math.prod(self.shape[-self.channel_axes :])

  @property
  def _missing(self) -> int:
    return -self._total % self.size if self.kind == 'split' else 0

  @property
  def filled(self) -> np.ndarray:
    """Bool array [rows, columns], true for what is a weight and no filling."""
    found = np.ones(self._total + self._missing, bool)
    found[self._total :] = False
    return found.reshape(self.nb_rows, -1)

  def rows(self, kernel: Any) -> Any:
    """The table [rows, columns] of a kernel, an array or a tensor of `shape`.

    Made of reshapes alone: indices would be as many numbers again in each compiled step.
    """
    x = _functions(kernel)
    if self.kind == 'channel':
      rows = x.transpose(x.reshape(kernel, [-1, self._channels]))
      return np.ascontiguousarray(rows) if x is np else rows
    flat = x.reshape(kernel, [-1])
    if self._missing:
      flat = x.pad(flat, [[0, self._missing]])
    return x.reshape(flat, [self.nb_rows, -1])

  def kernel(self, rows: Any) -> Any:
    """The kernel of a table; the inverse of `rows`."""
    x = _functions(rows)
    if self.kind == 'channel':
      return x.reshape(x.transpose(rows), self.shape)
    return x.reshape(x.reshape(rows, [-1])[: self._total], self.shape)


def _functions(values: Any) -> Any:
  """The library whose reshape, transpose and pad take some values: NumPy or TensorFlow."""
  if isinstance(values, np.ndarray):
    return np
  import tensorflow as tf

  return tf


def buckets_of(name: str, shape: tuple[int, ...], kind: str, size: int) -> Buckets:
  """The buckets of a kernel whose weight has a name, such as depthwise_kernel.

  Raises:
    ValueError: no buckets have that kind, or their size is below 1.
  """
  if kind not in KINDS or size < 1:
    raise ValueError(f'kind must be in {KINDS} and size at least 1, but {kind}, {size} came.')
  depthwise = 'depthwise' in name.rsplit('/', 1)[-1]
  return Buckets(tuple(shape), kind, size, 2 if depthwise else 1)
