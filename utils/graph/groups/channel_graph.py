"""The channel graph: which channels of which layers live and die together."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.counting import ModelCount, count
from secateurs.utils.graph.flat.rebuild import variables, weight_names
from secateurs.utils.graph.groups.chains import own_chains
from secateurs.utils.graph.groups.collecting import collect
from secateurs.utils.graph.groups.members import ChannelMap, Group
from secateurs.utils.graph.groups.table import group_table
from secateurs.utils.graph.groups.tracing import Traced, trace_model
from secateurs.utils.graph.rules.base import Trace

NORMS, HEADS = ('keep', 'cut'), ('width', 'whole')


class ChannelGraph:
  """The channel groups of a functional or Sequential tf_keras model.

  `print(graph)` shows a table. The model itself is left as it is.

  Attributes:
    model: the model.
    groups: list of `Group`, in topological order of their first producer.
    traced: the channels of every tensor.
    first_traces: layer name -> the trace of its first call, in topological order.
    norms: 'keep' or 'cut'.
    heads: 'width' or 'whole'.
  """

  def __init__(self, model: keras.Model, norms: str = 'keep', heads: str = 'width'):
    """Walks `model`.

    Args:
      model: the model.
      norms: 'keep' protects channels that a LayerNormalization, UnitNormalization or l2_normalize
        runs over, and keeps the groups of a GroupNormalization whole. With 'cut' channels can go:
        mean and variance then run over those that are left, so the outputs change by more than what
        the dropped channels carried (see `correct_norms`).
      heads: how the inside of an attention is cut. 'width': all heads lose the same of their channels;
        'whole': heads go as a whole.

    Raises:
      UserError: if the model is not a functional or Sequential tf_keras model, or `norms` or `heads`
        is none of these.
    """
    if norms not in NORMS:
      raise UserError(f"norms must be 'keep' or 'cut', got {norms!r}.")
    if heads not in HEADS:
      raise UserError(f"heads must be 'width' or 'whole', got {heads!r}.")
    self.model = model
    self.norms = norms
    self.heads = heads
    self.traced: Traced = trace_model(model, norms == 'cut', heads == 'whole')
    self.first_traces = self.traced.first_traces()
    self.groups, self._group_of, self._element_of = collect(self.traced, self.first_traces)
    self._counts: ModelCount | None = None
    self._shapes: dict[str, list[tuple[str, tuple[int, ...]]]] = {}

  def again(self, model: keras.Model) -> ChannelGraph:
    """Returns the graph of another model, followed in the same way."""
    return ChannelGraph(model, self.norms, self.heads)

  def __iter__(self) -> Iterator[Group]:
    return iter(self.groups)

  def __len__(self) -> int:
    return len(self.groups)

  def group(self, key: int | str | Group) -> Group:
    """Returns a group by index, or by the name of a layer whose output belongs to it.

    Raises:
      UserError: if there is no such group, or the layer's channels lie in several groups.
    """
    if isinstance(key, Group):
      return self.groups[key.index]
    if isinstance(key, (int, np.integer)):
      if not 0 <= key < len(self.groups):
        raise UserError(
          f'There is no channel group {key}, expected 0 to {len(self.groups) - 1}:'
          ' print the ChannelGraph to see them.'
        )
      return self.groups[key]
    found = {int(one) for one in self.outputs(key).group} - {-1}
    if len(found) != 1:
      raise UserError(
        f'The output of layer {key!r} lies in {len(found)} channel groups, expected one:'
        ' use ChannelGraph.outputs(name) to see where each channel belongs.'
      )
    return self.groups[found.pop()]

  def trace(self, layer: str) -> Trace:
    """Returns the trace of a layer's first call.

    Raises:
      UserError: the model has no such layer.
    """
    if layer not in self.first_traces:
      near = difflib.get_close_matches(str(layer), self.first_traces, 1)
      hint = f'did you mean {near[0]!r}?' if near else 'see model.summary() for the names.'
      raise UserError(f'Model {self.model.name!r} has no layer {layer!r}: {hint}')
    return self.first_traces[layer]

  def where(self, labels: np.ndarray) -> ChannelMap:
    """Returns the groups of some graph-wide element numbers, int [n], and their elements there."""
    return ChannelMap(self._group_of[labels], self._element_of[labels], labels)

  def outputs(self, layer: str) -> ChannelMap:
    """Returns where the channels of a layer's (first) output belong.

    Raises:
      UserError: if there is no such layer.
    """
    return self.where(self.made(layer))

  def inputs(self, layer: str, number: int = 0) -> ChannelMap:
    """Returns where the channels of a layer's input belong; of several inputs that of a number.

    Raises:
      UserError: if there is no such layer.
    """
    return self.where(self.trace(layer).ins[number].labels)

  def inside(self, layer: str, part: str) -> ChannelMap:
    """Returns where the channels that a layer keeps inside belong.

    Raises:
      UserError: if the layer has no such part.
    """
    return self.where(self.made(layer, part))

  def made(self, layer: str, part: str | None = None) -> np.ndarray:
    """Returns the elements, int [n], of the channels that a layer makes, or keeps inside as `part`.

    Raises:
      UserError: if there is no such layer, or it has no such part.
    """
    trace = self.trace(layer)
    if part is None:
      return trace.outs[0].labels if trace.produced is None else trace.produced
    if part not in trace.inside:
      parts = ' or '.join(map(repr, ('input', 'output', *trace.inside)))
      raise UserError(f'Layer {layer!r} has no {part!r} to cut, expected {parts}.')
    return trace.inside[part]

  def protection(self, roots: np.ndarray) -> str | None:
    """Returns why one of these elements, int [n], may not be dropped, or None if all may."""
    why = self.traced.why[roots]
    hit = why[why >= 0]
    return self.traced.reasons[hit[0]] if len(hit) else None

  @functools.cached_property
  def own_chains(self) -> dict[str, str]:
    """Layers before one that may choose its inputs, by the name of that one; see `chains`."""
    return own_chains(self.traced.flat, self.first_traces)

  def counts(self) -> ModelCount:
    """Returns the model's MACs and parameters, counted once."""
    if self._counts is None:
      self._counts = count(self.model)
    return self._counts

  def weight_shapes(self, layer: str) -> list[tuple[str, tuple[int, ...]]]:
    """Returns names (without scope) and shapes of a layer's weights, found once."""
    if layer not in self._shapes:
      own = self.trace(layer).call.layer
      shapes = [tuple(one.shape) for one in variables(own)]
      self._shapes[layer] = list(zip(weight_names(own), shapes))
    return self._shapes[layer]

  def prunable_share(self, counts: ModelCount | None = None) -> float:
    """Share of the model's MACs, in [0, 1], that shrink when some prunable group is cut.

    A layer's multiply-adds count as far as their input or output channel can go.

    Args:
      counts: the MACs by layer, if not those of the model as it is (another input size).
    """
    total = touched = 0.0
    free = np.zeros(len(self.traced.why), bool)
    for group in self.groups:
      if group.prunable:
        free[group.roots[group.free]] = True
    for row in (counts or self.counts()).layers:
      if not row.macs:
        continue
      trace = self.first_traces[row.name]
      stuck = 1.0
      for labels in (trace.ins[0].labels, trace.outs[0].labels, *trace.inside.values()):
        if len(labels):
          stuck *= 1 - free[labels].mean()
      total += row.macs
      touched += row.macs * (1 - stuck)
    return touched / total if total else 0.0

  def table(self) -> str:
    """Returns the groups, sizes, members and protections as text."""
    return group_table(self.model.name, self.groups)

  def __str__(self) -> str:
    return self.table()
