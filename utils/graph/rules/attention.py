"""MultiHeadAttention as one layer: what it reads and what it gives can be cut, its heads stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.kernels import Producer, Rows

# Kernels in the order of the layer's weights: query, key, value, output.
_READ = ('kernel', 'kernel#1', 'kernel#2')


class SelfAttention(Producer):
  """MultiHeadAttention of one tensor with itself.

  Its projections have no layers of their own, so the width of a head stays. Written with Dense or
  EinsumDense layers, attention can be cut inside as well.
  """

  by_initializers = False
  emits_bias = False
  fold_obstacle = 'which is an attention'

  def trace(self, view: View) -> list[Channels]:
    """Rows of the three projections that read, new atoms for the output."""
    plain = len(view.in_shapes[0]) == 3 and len(view.out_shapes) == 1
    same = len(set(view.call.inputs)) == 1
    if not plain or not same or view.previous is not None:
      return Rule.trace(self, view)
    view.consumed = view.on_axis(0, 2)
    view.ins = [view.ins[0]] * len(view.ins)
    view.produced = view.atoms.new(view.out_shapes[0][2])
    return [Channels(2, view.produced)]

  def config(self, cut: Cut) -> dict[str, Any]:
    """The output's width and the shapes that the layer was built for."""
    if cut.trace.produced is None:
      return {}
    changes: dict[str, Any] = {'output_shape': int(cut.outs[0].sum())}
    for name in ('query_shape', 'key_shape', 'value_shape'):
      shape = cut.layer.get_config().get(name)
      if shape is not None:
        changes[name] = [*list(shape)[:-1], int(cut.ins[0].sum())]
    return changes

  def axes(self, cut: Cut) -> Axes:
    """First axis of the kernels that read, last one of that which writes."""
    if cut.trace.produced is None:
      return {}
    found: Axes = {name: [(0, cut.ins[0])] for name in _READ}
    found['kernel#3'] = [(-1, cut.outs[0])]
    if cut.layer._use_bias:
      found['bias#3'] = [(0, cut.outs[0])]
    return found

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """The first axis of all three."""
    return dict.fromkeys(_READ, (0, kept))

  def row_norms(self, layer: keras.layers.Layer, count: int) -> np.ndarray:
    """L1 norm of the rows of all three."""
    kernels = [dense.kernel.numpy() for dense in self._readers(layer)]
    return sum(np.abs(one).reshape(count, -1).sum(axis=1) for one in kernels)

  def _readers(self, layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [layer._query_dense, layer._key_dense, layer._value_dense]

  def filters(self, layer: keras.layers.Layer) -> np.ndarray:
    """The output projection."""
    kernel = layer._output_dense.kernel.numpy()
    return kernel.reshape(-1, kernel.shape[-1])

  def rows_are_own(self, layer: keras.layers.Layer) -> bool:
    """Rows go with their channel."""
    return False

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Constants are not folded."""
    return False

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return [Constant.live(len(trace.outs[0].labels))]
