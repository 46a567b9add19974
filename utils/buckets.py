"""How the weights of a kernel are grouped for quantisation: each group has its own grid or codebook."""

from __future__ import annotations

import dataclasses
import functools
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

  @functools.cached_property
  def places(self) -> np.ndarray | None:
    """int32 [rows, columns]: the number of each weight in C order, -1 for filling; None for one row."""
    total = int(np.prod(self.shape))
    if self.kind == 'layer':
      return None
    numbers = np.arange(total, dtype=np.int32)
    if self.kind == 'channel':
      channels = int(np.prod(self.shape[-self.channel_axes :]))
      return np.ascontiguousarray(numbers.reshape(-1, channels).T)
    missing = -total % self.size
    return np.append(numbers, np.full(missing, -1, np.int32)).reshape(-1, self.size)

  @property
  def nb_rows(self) -> int:
    """How many buckets there are."""
    return 1 if self.places is None else len(self.places)

  @functools.cached_property
  def filled(self) -> np.ndarray:
    """Bool array [rows, columns], true for what is a weight and no filling."""
    if self.places is None:
      return np.ones((1, int(np.prod(self.shape))), bool)
    return self.places >= 0

  def rows(self, kernel: Any) -> Any:
    """The table [rows, columns] of a kernel, an array or a tensor of `shape`."""
    if isinstance(kernel, np.ndarray):
      flat = kernel.reshape(-1)
      return flat[np.newaxis] if self.places is None else np.append(flat, 0)[self.places]
    import tensorflow as tf

    flat = tf.reshape(kernel, [-1])
    if self.places is None:
      return flat[tf.newaxis]
    if not self.filled.all():
      flat = tf.pad(flat, [[0, 1]])
    return tf.gather(flat, np.where(self.filled, self.places, int(np.prod(self.shape))))

  def kernel(self, rows: Any) -> Any:
    """The kernel of a table; the inverse of `rows`."""
    if isinstance(rows, np.ndarray):
      return rows.reshape(-1)[self._order].reshape(self.shape)
    import tensorflow as tf

    flat = tf.reshape(rows, [-1])
    return tf.reshape(flat if self.places is None else tf.gather(flat, self._order), self.shape)

  @functools.cached_property
  def _order(self) -> np.ndarray:
    """The place in the table, in C order, of each weight of the kernel."""
    if self.places is None:
      return np.arange(int(np.prod(self.shape)))
    places = self.places.reshape(-1)
    order = np.empty(int(np.prod(self.shape)), np.int32)
    order[places[places >= 0]] = np.flatnonzero(places >= 0)
    return order


def buckets_of(name: str, shape: tuple[int, ...], kind: str, size: int) -> Buckets:
  """The buckets of a kernel whose weight has a name, such as depthwise_kernel.

  Raises:
    ValueError: no buckets have that kind, or their size is below 1.
  """
  if kind not in KINDS or size < 1:
    raise ValueError(f'kind must be in {KINDS} and size at least 1, but {kind}, {size} came.')
  depthwise = 'depthwise' in name.rsplit('/', 1)[-1]
  return Buckets(tuple(shape), kind, size, 2 if depthwise else 1)
