"""RNN around cells: one cell, or several on top of each other; the last one gives the output."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.activations import acts_on_channels_apart
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.recurrent import Recurrent, gates, of_units, row_sums

_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)


def cells_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
  """The cells of an RNN, the one that reads the input first."""
  cell = layer.cell
  return list(cell.cells) if isinstance(cell, keras.layers.StackedRNNCells) else [cell]


class CellRecurrent(Recurrent):
  """RNN of LSTMCell, GRUCell and SimpleRNNCell.

  The units of the last cell are the output's channels. Those of the cells before it are inside the
  layer, as parts 'cell0', 'cell1', ...: the next cell reads them.
  """

  obstacle = 'has cells other than LSTMCell, GRUCell and SimpleRNNCell'

  def trace(self, view: View) -> list[Channels]:
    """Atoms for the units of all cells; states, which inputs and outputs may be, share them."""
    layer, cells = view.layer, cells_of(view.layer)
    units = None
    if all(type(one) in _CELLS for one in cells) and view.previous is None:
      units = [view.atoms.new(one.units) for one in cells]
    states = self._states(layer, cells, units) if units else []
    given = view.data()[1:]
    counts = (len(given), len(view.out_shapes) - 1)
    if units is None or not set(counts) <= {0, len(states)}:
      return Rule.trace(self, view)
    view.consumed = view.on_axis(0, 2)
    view.produced = units[-1]
    view.inside = {f'cell{number}': labels for number, labels in enumerate(units[:-1])}
    for number, labels in zip(given, states):
      view.atoms.tie(labels, view.on_axis(number, 1))
    for one, labels in zip(cells, units):
      inner = (one.activation, getattr(one, 'recurrent_activation', None))
      if not all(map(acts_on_channels_apart, inner)):
        view.atoms.protect(labels, f'activation of {view.title()} may mix channels')
      if layer.stateful:
        view.atoms.protect(labels, f'{view.title()} keeps its state from batch to batch')
    outs = [units[-1], *states][: len(view.out_shapes)]
    return [Channels(len(shape) - 1, one) for shape, one in zip(view.out_shapes, outs)]

  def _states(
    self, layer: keras.layers.Layer, cells: list[keras.layers.Layer], units: list[np.ndarray]
  ) -> list[np.ndarray]:
    """The channels of every state: an LSTM has two."""
    found = [
      [labels] * (2 if isinstance(one, keras.layers.LSTMCell) else 1)
      for one, labels in zip(cells, units)
    ]
    if getattr(layer.cell, 'reverse_state_order', False):
      found.reverse()
    return [labels for states in found for labels in states]

  def _units(self, cut: Cut) -> list[np.ndarray]:
    return [*cut.inside.values(), cut.outs[0]]

  def config(self, cut: Cut) -> dict[str, Any]:
    """Units of every cell."""
    if cut.trace.produced is None:
      return {}
    own = cut.layer.get_config()['cell']
    kept = [int(one.sum()) for one in self._units(cut)]
    if 'cells' not in own['config']:
      return {'cell': _with(own, units=kept[0])}
    cells = [_with(one, units=units) for one, units in zip(own['config']['cells'], kept)]
    return {'cell': _with(own, cells=cells)}

  def axes(self, cut: Cut) -> Axes:
    """As for a layer of each cell; names of later cells' weights end in a number."""
    if cut.trace.produced is None:
      return {}
    found: Axes = {}
    rows, biases = cut.ins[0], 0
    for number, (cell, units) in enumerate(zip(cells_of(cut.layer), self._units(cut))):
      columns = np.tile(units, gates(cell))
      found[_numbered('kernel', number)] = [(0, rows), (1, columns)]
      found[_numbered('recurrent_kernel', number)] = [(0, units), (1, columns)]
      if cell.use_bias:
        found[_numbered('bias', biases)] = [(-1, columns)]
        biases += 1
      rows = units
    return found

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """Rows of all kernels and recurrent kernels."""
    if cut.trace.produced is None:
      return []
    found, rows = [], cut.ins[0]
    for number, units in enumerate(self._units(cut)):
      found.append((_numbered('kernel', number), 0, rows))
      found.append((_numbered('recurrent_kernel', number), 0, units))
      rows = units
    return [one for one in found if not one[2].all()]

  def filters(self, layer: keras.layers.Layer) -> np.ndarray:
    """All that a unit of the last cell hears."""
    cell = cells_of(layer)[-1]
    return of_units(cell, cell.units)

  def made(self, trace: Trace, part: str | None = None) -> np.ndarray | None:
    """All that a unit of the cell hears."""
    if trace.produced is None:
      return None
    cells = cells_of(trace.call.layer)
    cell = cells[-1] if part is None else cells[int(part.removeprefix('cell'))]
    return of_units(cell, cell.units)

  def row_norms(self, layer: keras.layers.Layer, count: int) -> np.ndarray:
    """L1 norm of each row of the first cell's kernel."""
    return row_sums(cells_of(layer)[0])

  def rows_are_own(self, layer: keras.layers.Layer) -> bool:
    """Rows go with their channel."""
    return False


def _numbered(name: str, number: int) -> str:
  return f'{name}#{number}' if number else name


def _with(serialized: dict[str, Any], **changes: Any) -> dict[str, Any]:
  """A serialized object with other entries in its config."""
  return {**serialized, 'config': {**serialized['config'], **changes}}
