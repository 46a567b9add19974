"""What a layer rule is: how channels pass through a layer, and how the layer shrinks.

One rule serves one family of layers. `trace` is asked once per call while the graph is built,
`resize` once per layer while a model is sliced, `rewrite` once per call for arguments that hold
sizes or constants, and `constant` when channels without any signal are folded away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import Axes, layer_values
from secateurs.utils.graph.flat.walk import Call, mask_inputs
from secateurs.utils.graph.rules.channels import Atoms, Channels
from secateurs.utils.graph.rules.constants import Constant


@dataclasses.dataclass
class View:
  """What a rule sees of one call while the graph is built.

  Attributes:
    call: the call.
    ins: channels of each input tensor.
    in_shapes: static shapes of the inputs, batch first.
    out_shapes: static shapes of the outputs.
    atoms: where ties and protections go.
    previous: the trace of the layer's first call, if this is not the first.
    cut_norms: whether normalisation over the channels may be cut, which changes its statistics.
    whole_heads: whether the channels that this call lays out as heads go by whole heads.
    consumed: set by rules whose kernel sums over the input's channels: one atom per kernel row.
    produced: set by rules whose kernel makes its own channels: one atom per filter.
    inside: set by rules of layers that keep channels inside, which no tensor shows: part -> atoms.
  """

  call: Call
  ins: list[Channels]
  in_shapes: list[tuple]
  out_shapes: list[tuple]
  atoms: Atoms
  previous: Trace | None = None
  cut_norms: bool = False
  whole_heads: bool = False
  consumed: np.ndarray | None = None
  produced: np.ndarray | None = None
  inside: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def layer(self) -> keras.layers.Layer:
    """The layer that is called."""
    return self.call.layer

  def data(self) -> list[int]:
    """Numbers of the inputs that are not the call's mask, whose channels are protected."""
    masks = mask_inputs(self.call)
    for number in masks:
      self.atoms.protect(self.ins[number].labels, f'{self.title()} takes it for its mask')
    return [number for number in range(len(self.ins)) if number not in masks]

  def title(self) -> str:
    """The layer as reasons name it."""
    return f'{type(self.layer).__name__} {self.call.name!r}'

  def on_axis(self, number: int, axis: int) -> np.ndarray:
    """Returns the atoms of input `number` on `axis`.

    If the channels are tracked on another axis they are protected, because this layer treats
    `axis` as the channels; the atoms returned are then protected ones.
    """
    channels = self.ins[number]
    rank = len(self.in_shapes[number])
    axis %= rank
    if channels.axis == axis:
      return channels.labels
    reason = f'{self.title()} works along another axis'
    self.atoms.protect(channels.labels, reason)
    size = self.in_shapes[number][axis]
    labels = self.atoms.new(size) if size is not None and axis > 0 else np.zeros(0, np.int64)
    self.atoms.protect(labels, reason)
    self.ins[number] = Channels(axis if len(labels) else None, labels)
    return labels

  def protect_inputs(self, reason: str) -> None:
    """Protects the channels of all inputs."""
    for channels in self.ins:
      self.atoms.protect(channels.labels, reason)

  def protect_sizes(self) -> None:
    """Protects channels whose number goes into this call as a part of a tensor's shape."""
    for number in self.call.inputs:
      if number in self.atoms.sizes:
        labels = self.atoms.sizes[number].labels
        self.atoms.protect(labels, f'{self.title()} uses the number of channels')

  def fixed_outputs(self, reason: str) -> list[Channels]:
    """Returns fresh protected channels for every output, on the last axis."""
    return [fixed(self.atoms, shape, reason) for shape in self.out_shapes]

  def share(self, labels: np.ndarray) -> None:
    """Ties the inputs of a second call of a layer with weights to those of its first call."""
    if self.previous is not None:
      self.atoms.tie(self.previous.ins[0].labels, labels)


def fixed(atoms: Atoms, shape: tuple, reason: str, axis: int = -1) -> Channels:
  """Fresh protected channels for a tensor of the given shape."""
  if len(shape) < 2 or shape[axis] is None:
    return Channels.none()
  labels = atoms.new(shape[axis])
  atoms.protect(labels, reason)
  return Channels(axis % len(shape), labels)


@dataclasses.dataclass
class Trace:
  """A call with the channels of what goes in and comes out; see `View` for the rest."""

  call: Call
  rule: Rule
  ins: list[Channels]
  outs: list[Channels]
  consumed: np.ndarray | None
  produced: np.ndarray | None
  in_shapes: list[tuple]
  out_shapes: list[tuple]
  inside: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Cut:
  """What stays of one call.

  Attributes:
    trace: the call.
    ins: for each input a bool array over its channel positions, True where kept.
    outs: the same for each output.
    inside: the same for each part of the channels inside the layer.
  """

  trace: Trace
  ins: list[np.ndarray]
  outs: list[np.ndarray]
  inside: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def layer(self) -> keras.layers.Layer:
    """The layer of the model that is sliced."""
    return self.trace.call.layer

  def rank(self, number: int) -> int:
    """Number of axes, batch included, of output `number`."""
    return len(self.trace.out_shapes[number])

  def rank_in(self, number: int) -> int:
    """Number of axes, batch included, of input `number`."""
    return len(self.trace.in_shapes[number])


Instead = Callable[..., Any]
# Of a product of tensors: what they multiply to is a number of multiply-adds.
Sides = tuple[int, ...]


class Rule:
  """The rule of layers that are not understood: everything they touch is protected.

  Attributes:
    obstacle: why the channels that such a layer touches cannot go.
    makes_channels: whether layers of this family have filters, which make channels.
    by_initializers: whether the layer's initialisers make its weights in a known order, so that a
      copy can be given its values by them.
    emits_bias: whether a layer that lost all inputs emits its bias at every position.
    fold_obstacle: why a constant does not fold into the layer's bias.
    normalises: whether the channels' statistics decide, which change where norms are cut.
  """

  obstacle = 'may mix channels'
  makes_channels = False
  by_initializers = True
  emits_bias = True
  fold_obstacle = 'which pads its map'
  normalises = False

  def trace(self, view: View) -> list[Channels]:
    """Ties and protects atoms; returns the channels of the outputs."""
    reason = f'{view.title()} {self.obstacle}'
    view.consumed = view.produced = None
    view.protect_sizes()
    view.protect_inputs(reason)
    return view.fixed_outputs(reason)

  def config(self, cut: Cut) -> dict[str, Any]:
    """Returns the entries of the layer's config that change, by name."""
    return {}

  def axes(self, cut: Cut) -> Axes:
    """Returns for each weight that shrinks, by name, pairs (axis, bool [size] of what stays)."""
    return {}

  def values(self, cut: Cut) -> list[np.ndarray]:
    """Returns the values of the weights in the sliced model."""
    return layer_values(cut.layer, self.axes(cut))

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """Returns the arguments of the call in the sliced model, `Ref`s kept."""
    return cut.trace.call.args, cut.trace.call.kwargs

  def instead(self, cut: Cut) -> Instead | None:
    """Returns a function of the new input tensors that replaces the call, or None."""
    return None

  def summed(self, trace: Trace) -> list[int]:
    """Numbers of the inputs whose channels are summed over without a kernel.

    Such a channel is masked where it enters: it counts as zero there.
    """
    return []

  def heard(self, trace: Trace) -> list[int]:
    """Numbers of the inputs after the first that kernels sum over: constants there do not fold."""
    return []

  def products(
    self, call: Call, in_shapes: Sequence[tuple], out_shapes: Sequence[tuple]
  ) -> list[Sides]:
    """Returns the sides of the products of two tensors that a call makes, for a row of the batch."""
    return []

  def filters(self, layer: keras.layers.Layer) -> np.ndarray | None:
    """Returns the weights of each filter, [weights, filters], or None for layers without."""
    return None

  def made(self, trace: Trace, part: str | None = None) -> np.ndarray | None:
    """Returns the weights [n, channels] of each channel that a call makes or keeps inside, or None."""
    return self.filters(trace.call.layer)

  def rows_are_own(self, layer: keras.layers.Layer) -> bool:
    """Returns whether input rows can be cut for this layer alone."""
    return False

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Returns whether constants of the input stay constants, and so fold into the layer's bias."""
    return False

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """Returns the weight slices that see dropped channels: (weight, axis, bool [size] of the rest)."""
    return []

  def masked_call(self, cut: Cut) -> Callable[..., Any] | None:
    """Returns what stands for the layer's `call` in the masked model, or None if that is the same."""
    return None

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Returns which output channels are constant, given which input channels are."""
    return [Constant.unknown(ins, len(out.labels)) for out in trace.outs]
