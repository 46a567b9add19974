"""EinsumDense: a dense layer over any axes, as Keras' own attention projects to heads and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.producers import Producer, Rows, guard_activation


@dataclasses.dataclass(frozen=True)
class Equation:
  """The letters of a layer.

  Attributes:
    inputs: of the input's axes.
    kernel: of the kernel's.
    out: of the output's.
    row: the letter whose channels the kernel sums over, the longest of those, or None.
    filter: the letter of the channels that the kernel makes, or None.
  """

  inputs: str
  kernel: str
  out: str
  row: str | None
  filter: str | None

  @staticmethod
  def of(layer: keras.layers.Layer, rank: int) -> Equation:
    """Reads a layer that is called on a tensor of `rank` axes."""
    inputs, rest = layer.equation.replace(' ', '').split(',')
    kernel, out = rest.split('->')
    if '...' in inputs:
      names = ''.join(chr(0x391 + n) for n in range(rank - len(inputs) + 3))
      inputs, out = inputs.replace('...', names), out.replace('...', names)
    sizes = dict(zip(kernel, layer.kernel.shape))
    summed = [one for one in kernel if one in inputs and one not in out]
    made = [one for one in kernel if one not in inputs and one in out]
    return Equation(inputs, kernel, out, _longest(summed, sizes), _longest(made, sizes))

  def following(self, axis: int | None, whole_heads: bool = False) -> Equation:
    """The letters where channels are tracked on `axis` of the input, and whole heads are to go."""
    row, made = self.row, [one for one in self.out if one in self.kernel and one not in self.inputs]
    if row is not None and axis is not None and self.inputs[axis] in self.kernel:
      row = self.inputs[axis] if self.inputs[axis] not in self.out else row
    heads = made[-2] if whole_heads and len(made) > 1 else self.filter
    return dataclasses.replace(self, row=row, filter=heads)


def _longest(letters: list[str], sizes: dict[str, int]) -> str | None:
  """The letter of the longest axis, the last one of equals: as a reshape chooses."""
  if not letters:
    return None
  return max(enumerate(letters), key=lambda one: (sizes[one[1]], one[0]))[1]


class EinsumDense(Producer):
  """EinsumDense: makes channels, sums over them, scales each, or passes them along another axis.

  Where the output has two new axes, heads and their width, the longer one holds the channels: the
  same offsets go in every head.
  """

  emits_bias = False
  fold_obstacle = 'which works along several axes'

  def trace(self, view: View) -> list[Channels]:
    """Follows the letter of the tracked axis."""
    layer = view.layer
    one = Equation.of(layer, len(view.in_shapes[0]))
    letters = (one.inputs, one.kernel, one.out)
    if any(len(set(word)) != len(word) for word in letters):
      return Rule.trace(self, view)
    one = one.following(view.ins[0].axis, view.whole_heads)
    channels = view.ins[0]
    letter = None if channels.axis is None else one.inputs[channels.axis]
    if letter is not None and letter in one.out:
      # The channels have their own factor each, or other axes are worked on.
      if one.filter is None or letter not in one.kernel:
        view.share(channels.labels)
        guard_activation(view, channels.labels)
        return [Channels(one.out.index(letter), channels.labels)]
      return Rule.trace(self, view)
    if one.row is not None:
      rows = view.on_axis(0, one.inputs.index(one.row))
      view.share(rows)
      view.consumed = rows
    else:
      view.protect_inputs(f'{view.title()} works along another axis')
    if one.filter is None:
      return [Channels.none()]
    size = layer.kernel.shape[one.kernel.index(one.filter)]
    if view.previous is not None:
      view.produced = view.previous.produced
    else:
      view.produced = view.atoms.new(size)
      guard_activation(view, view.produced)
    return [Channels(one.out.index(one.filter), view.produced)]

  def _letter(self, cut: Cut) -> tuple[Equation, str | None]:
    """The equation, and the letter of the output's channels."""
    one = Equation.of(cut.layer, cut.rank_in(0)).following(cut.trace.ins[0].axis)
    axis = cut.trace.outs[0].axis
    return one, None if axis is None else one.out[axis]

  def config(self, cut: Cut) -> dict[str, Any]:
    """The output's shape, which leaves the batch (or the ellipsis) out."""
    one, letter = self._letter(cut)
    if letter is None or cut.outs[0].all():
      return {}
    shape = cut.layer.get_config()['output_shape']
    shape = [shape] if isinstance(shape, int) else list(shape)
    place = one.out.index(letter) - len(one.out)
    if -place <= len(shape) and shape[place] is not None:
      shape[place] = int(cut.outs[0].sum())
    return {'output_shape': shape}

  def axes(self, cut: Cut) -> Axes:
    """Kernel and bias, along the letters that lose channels."""
    one, letter = self._letter(cut)
    kernel = []
    if cut.trace.consumed is not None and one.row is not None:
      kernel.append((one.kernel.index(one.row), cut.ins[0]))
    if letter is not None and letter in one.kernel:
      kernel.append((one.kernel.index(letter), cut.outs[0]))
    found: Axes = {'kernel': kernel}
    bias = cut.layer.bias
    if bias is not None and letter is not None:
      place = one.out.index(letter) - len(one.out)
      if -place <= len(bias.shape) and bias.shape[place] > 1:
        found['bias'] = [(place, cut.outs[0])]
    return found

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """The axis of the summed letter, of two the one with as many channels."""
    one = Equation.of(layer, _rank(layer))
    sizes = dict(zip(one.kernel, layer.kernel.shape))
    row = one.row
    if sizes[row] != len(kept):
      row = next(x for x in one.kernel if x not in one.out and sizes[x] == len(kept))
    return {'kernel': (one.kernel.index(row), kept)}

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """The rows of dropped input channels."""
    one, _ = self._letter(cut)
    if cut.trace.consumed is None or cut.ins[0].all():
      return []
    return [('kernel', one.kernel.index(one.row), cut.ins[0])]

  def made(self, trace: Trace, part: str | None = None) -> np.ndarray | None:
    """The kernel with the letter of the output's channels last."""
    axis = trace.outs[0].axis
    one = Equation.of(trace.call.layer, len(trace.in_shapes[0]))
    if axis is None or one.out[axis] not in one.kernel:
      return None
    return _filters(trace.call.layer, one, one.out[axis])

  def rows_are_own(self, layer: keras.layers.Layer) -> bool:
    """Rows go with their channel."""
    return False

  def filters(self, layer: keras.layers.Layer) -> np.ndarray | None:
    """The kernel with the made letter last."""
    one = Equation.of(layer, _rank(layer))
    return None if one.filter is None else _filters(layer, one, one.filter)

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Constants are not folded."""
    return False

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return [Constant.live(len(out.labels)) for out in trace.outs]


def _filters(layer: keras.layers.Layer, one: Equation, letter: str) -> np.ndarray:
  kernel = np.moveaxis(layer.kernel.numpy(), one.kernel.index(letter), -1)
  return kernel.reshape(-1, kernel.shape[-1])


def _rank(layer: keras.layers.Layer) -> int:
  """Axes of the input; those of an ellipsis do not matter for the kernel."""
  return len(layer.equation.split(',')[0].replace(' ', '').replace('...', ''))
