"""Recurrent layers: units are channels; a unit's columns of all gates go with its recurrent row."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.activations import acts_on_channels_apart
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.producers import Producer, Rows

_GATES = {'LSTM': 4, 'GRU': 3, 'SimpleRNN': 1}


def gates(layer: keras.layers.Layer) -> int:
  """How many columns of the kernel serve one unit, of a layer or a cell."""
  name = type(layer).__name__.removesuffix('Cell')
  return 4 if name.startswith('ConvLSTM') else _GATES[name]


class Recurrent(Producer):
  """LSTM, GRU and SimpleRNN.

  A dropped unit's recurrent row goes, too: the other units no longer hear it, which is what masking
  its row in the recurrent kernel gives.
  """

  by_initializers = False
  emits_bias = False
  fold_obstacle = 'which is recurrent'

  def trace(self, view: View) -> list[Channels]:
    """Rows of the input, new atoms for the units, which initial states share."""
    axis = self._axis(view.layer)
    rows = view.on_axis(0, axis)
    view.share(rows)
    view.consumed = rows
    if view.previous is None:
      view.produced = view.atoms.new(getattr(view.layer, self._size))
      self._guard(view)
    else:
      view.produced = view.previous.produced
    # States are like the input without its steps.
    for number in view.data()[1:]:
      view.atoms.tie(view.produced, view.on_axis(number, axis - 1))
    steps = len(view.in_shapes[0])
    return [Channels(axis - steps + len(shape), view.produced) for shape in view.out_shapes]

  _size = 'units'

  def _axis(self, layer: keras.layers.Layer) -> int:
    """The channel axis of the input."""
    return 2

  def _guard(self, view: View) -> None:
    layer = view.layer
    inner = (layer.activation, getattr(layer, 'recurrent_activation', None))
    if not all(map(acts_on_channels_apart, inner)):
      view.atoms.protect(view.produced, f'activation of {view.title()} may mix channels')
    if layer.stateful:
      view.atoms.protect(view.produced, f'{view.title()} keeps its state from batch to batch')

  def config(self, cut: Cut) -> dict[str, Any]:
    """Units."""
    return {self._size: int(cut.outs[0].sum())}

  def axes(self, cut: Cut) -> Axes:
    """Kernel [.., inputs, gates * units], recurrent kernel [.., units, gates * units], bias alike."""
    units = cut.outs[0]
    columns = np.tile(units, gates(cut.layer))
    return {
      'kernel': [(-2, cut.ins[0]), (-1, columns)],
      'recurrent_kernel': [(-2, units), (-1, columns)],
      'bias': [(-1, columns)],
    }

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """The kernel's rows."""
    return {'kernel': (-2, kept)}

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """The kernel's rows, and the recurrent kernel's."""
    units = cut.outs[0]
    own = [] if units.all() else [('recurrent_kernel', -2, units)]
    return [*super().masks(cut), *own]

  def filters(self, layer: keras.layers.Layer) -> np.ndarray:
    """All that a unit hears: kernel and recurrent kernel of its gates, [.., units]."""
    return of_units(layer.cell, getattr(layer, self._size))

  def row_norms(self, layer: keras.layers.Layer, count: int) -> np.ndarray:
    """L1 norm of each kernel row."""
    return row_sums(layer.cell)

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Constants are not folded."""
    return False

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed: a unit's output changes from step to step."""
    return [Constant.live(len(out.labels)) for out in trace.outs]


class ConvRecurrent(Recurrent):
  """ConvLSTM1D, ConvLSTM2D and ConvLSTM3D: as an LSTM, with kernels that are windows."""

  _size = 'filters'

  def _axis(self, layer: keras.layers.Layer) -> int:
    """After the positions, or before them."""
    rank = len(layer.cell.kernel_size)
    return rank + 2 if layer.cell.data_format == 'channels_last' else 2


def of_units(cell: keras.layers.Layer, units: int) -> np.ndarray:
  """All that each unit of a cell hears, [weights, units]."""
  both = (cell.kernel.numpy(), cell.recurrent_kernel.numpy())
  return np.concatenate([one.reshape(-1, units) for one in both])


def row_sums(cell: keras.layers.Layer) -> np.ndarray:
  """L1 norm of each row of a cell's kernel."""
  kernel = np.abs(cell.kernel.numpy())
  return kernel.sum(axis=tuple(axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2))


class Bidirectional(Rule):
  """Two recurrent layers, whose units go together where there are equally many.

  Outputs are side by side, or added and the like.
  """

  by_initializers = False
  emits_bias = False
  makes_channels = True
  fold_obstacle = 'which is recurrent'
  _inner = Recurrent()

  def trace(self, view: View) -> list[Channels]:
    """As for both layers."""
    layer = view.layer
    known = (
      type(layer.forward_layer).__name__ in _GATES and type(layer.backward_layer).__name__ in _GATES
    )
    several = len(view.data()) > 1 or len(view.out_shapes) > 1 or layer.merge_mode is None
    if not known or several or view.previous is not None or layer.forward_layer.stateful:
      return Rule.trace(self, view)
    rows = view.on_axis(0, 2)
    view.consumed = rows
    sizes = [one.units for one in (layer.forward_layer, layer.backward_layer)]
    halves = [view.atoms.new(size) for size in sizes]
    if sizes[0] == sizes[1]:
      # Side by side, too: neither direction can go whole, and Keras 3 expects equal widths.
      view.atoms.tie(*halves)
    view.produced = np.concatenate(halves) if layer.merge_mode == 'concat' else halves[0]
    for one in (layer.forward_layer, layer.backward_layer):
      inner = (one.activation, getattr(one, 'recurrent_activation', None))
      if not all(map(acts_on_channels_apart, inner)):
        view.atoms.protect(view.produced, f'activation of {view.title()} may mix channels')
    return [Channels(len(view.out_shapes[0]) - 1, view.produced)]

  def _halves(self, cut: Cut) -> list[np.ndarray]:
    """What stays of the forward and of the backward units."""
    if cut.layer.merge_mode != 'concat':
      return [cut.outs[0], cut.outs[0]]
    return np.split(cut.outs[0], [cut.layer.forward_layer.units])

  def config(self, cut: Cut) -> dict[str, Any]:
    """Units of both layers."""
    if cut.trace.produced is None:
      return {}
    config = cut.layer.get_config()
    changes = {}
    for key, kept in zip(('layer', 'backward_layer'), self._halves(cut)):
      if key in config:
        inner = config[key]
        changes[key] = {**inner, 'config': {**inner['config'], 'units': int(kept.sum())}}
    if 'backward_layer' not in config:
      forward, backward = (int(one.sum()) for one in self._halves(cut))
      if forward != backward:
        inner = keras.layers.serialize(cut.layer.backward_layer)
        changes['backward_layer'] = {**inner, 'config': {**inner['config'], 'units': backward}}
    return changes

  def axes(self, cut: Cut) -> Axes:
    """Both layers' weights, of which the second's have names that end in #1."""
    if cut.trace.produced is None:
      return {}
    found: Axes = {}
    layers = (cut.layer.forward_layer, cut.layer.backward_layer)
    for suffix, layer, units in zip(('', '#1'), layers, self._halves(cut)):
      columns = np.tile(units, gates(layer))
      found[f'kernel{suffix}'] = [(0, cut.ins[0]), (1, columns)]
      found[f'recurrent_kernel{suffix}'] = [(0, units), (1, columns)]
      found[f'bias{suffix}'] = [(-1, columns)]
    return found

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """Rows of both kernels and of both recurrent kernels."""
    if cut.trace.produced is None:
      return []
    found = []
    for suffix, units in zip(('', '#1'), self._halves(cut)):
      if not cut.ins[0].all():
        found.append((f'kernel{suffix}', 0, cut.ins[0]))
      if not units.all():
        found.append((f'recurrent_kernel{suffix}', 0, units))
    return found

  def filters(self, layer: keras.layers.Layer) -> np.ndarray | None:
    """All that a unit hears, forward units first; of both directions where outputs are merged."""
    both = [self._inner.filters(one) for one in (layer.forward_layer, layer.backward_layer)]
    return np.concatenate(both, axis=0 if layer.merge_mode != 'concat' else 1)

  def row_norms(self, layer: keras.layers.Layer, count: int) -> np.ndarray:
    """L1 norm of the rows of both kernels."""
    both = (layer.forward_layer, layer.backward_layer)
    return sum(self._inner.row_norms(one, count) for one in both)

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return [Constant.live(len(out.labels)) for out in trace.outs]
