"""What makes channels with a kernel: new channels for its filters, sums over the channels it reads."""

from __future__ import annotations

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.layouts import channel_axis
from secateurs.utils.graph.rules.activations import acts_on_channels_apart, apply
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant

Rows = dict[str, tuple[int, np.ndarray]]


def weight(layer: keras.layers.Layer, name: str) -> np.ndarray | None:
  """The value of one of the layer's variables, or None if it has no such variable."""
  variable = getattr(layer, name, None)
  return None if variable is None else variable.numpy()


def guard_activation(view: View, labels: np.ndarray) -> None:
  """Protects `labels` if the layer's own activation mixes channels (softmax) or is unknown."""
  activation = getattr(view.layer, 'activation', None)
  if not acts_on_channels_apart(activation):
    name = getattr(activation, '__name__', type(activation).__name__)
    view.atoms.protect(labels, f'activation {name!r} of {view.title()} may mix channels')


class Producer(Rule):
  """What all kernels share: new atoms for the filters, the same ones at every call."""

  makes_channels = True

  def trace(self, view: View) -> list[Channels]:
    """Ties the input rows of all calls, and gives the filters their atoms."""
    shape = view.out_shapes[0]
    axis = self.axis(view.layer, len(shape))
    rows = view.on_axis(0, axis)
    view.share(rows)
    view.consumed = rows
    if view.previous is not None:
      view.produced = view.previous.produced
    else:
      view.produced = view.atoms.new(shape[axis])
      guard_activation(view, view.produced)
      self.tie(view, rows, view.produced)
    return [Channels(axis, view.produced)]

  def axis(self, layer: keras.layers.Layer, rank: int) -> int:
    """The channel axis."""
    return channel_axis(layer, rank)

  def tie(self, view: View, rows: np.ndarray, filters: np.ndarray) -> None:
    """Ties input rows and filters, for kernels that need it."""

  def filters_are_zero(self, layer: keras.layers.Layer) -> np.ndarray:
    """Bool array [filters], True where every weight of the filter is zero."""
    return ~self.filters(layer).any(axis=0)

  def filters(self, layer: keras.layers.Layer) -> np.ndarray | None:
    """The kernel with the filters on the last axis."""
    kernel = weight(layer, self.kernel)
    kernel = np.moveaxis(kernel, self.out_axis, -1)
    return kernel.reshape(-1, kernel.shape[-1])

  kernel = 'kernel'
  out_axis = -1

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """Which weight slices the kept input channels use: weight name -> (axis, bool array)."""
    raise NotImplementedError

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """The rows of dropped input channels."""
    if cut.trace.consumed is None or cut.ins[0].all():
      return []
    rows = self.rows(cut.layer, cut.ins[0])
    return [(name, axis, kept) for name, (axis, kept) in rows.items()]

  def rows_are_own(self, layer: keras.layers.Layer) -> bool:
    """True if input rows can be cut for this layer alone."""
    return True

  def row_norms(self, layer: keras.layers.Layer, count: int) -> np.ndarray:
    """L1 norm of what each of `count` input channels meets in the kernel."""
    total = np.zeros(count)
    for name, (axis, mask) in self.rows(layer, np.ones(count, bool)).items():
      value = weight(layer, name)
      axis %= value.ndim
      norms = np.abs(value).sum(axis=tuple(a for a in range(value.ndim) if a != axis))
      total += np.tile(norms, count // len(mask))
    return total

  def response(self, layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """What a constant input map adds to each filter, [filters]: kernel summed over the window."""
    raise NotImplementedError

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """True if every output position sees the whole window, so that constants stay constants."""
    return True

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """A filter of zeros emits its bias, and so does every filter whose whole input is zero."""
    layer = trace.call.layer
    bias = weight(layer, 'bias') if layer.use_bias else None
    size = len(trace.outs[0].labels)
    value = np.zeros(size) if bias is None else bias.astype(np.float64)
    silent = self.filters_are_zero(layer)
    given = ins[0].value
    if trace.consumed is not None and len(given) and not np.isnan(given).any():
      if not given.any():
        silent = np.ones(size, bool)
      elif self.ignores_borders(layer):
        value = value + self.response(layer, given)
        silent = np.ones(size, bool)
    value = apply(layer.activation, value)
    return [Constant.of(np.where(silent, value, np.nan))]
