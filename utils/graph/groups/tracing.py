"""Runs the layer rules over a flat model: which atoms lie where, what is tied, what is protected."""

from __future__ import annotations

import dataclasses

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.walk import FlatModel, flatten_model
from secateurs.utils.graph.groups.heads import calls_of_heads
from secateurs.utils.graph.rules.base import Trace, View, fixed
from secateurs.utils.graph.rules.channels import Atoms, Channels
from secateurs.utils.graph.rules.registry import rule_of


@dataclasses.dataclass
class Traced:
  """A model whose channels are known.

  Attributes:
    flat: the model's calls.
    traces: one for each call, in the same order; their labels are roots, so that channels that
      must go together have the same number.
    channels: for each tensor its channels, labels being roots.
    why: int array [atoms]; for each root the number of the reason that protects it, or -1.
    reasons: the reasons.
  """

  flat: FlatModel
  traces: list[Trace]
  channels: list[Channels]
  why: np.ndarray
  reasons: list[str]

  def first_traces(self) -> dict[str, Trace]:
    """Returns layer name -> the trace of its first call."""
    found: dict[str, Trace] = {}
    for trace in self.traces:
      found.setdefault(trace.call.name, trace)
    return found


def trace_model(model: keras.Model, cut_norms: bool = False, whole_heads: bool = False) -> Traced:
  """Follows the channels of every tensor through `model`.

  Args:
    model: the model.
    cut_norms: whether channels that are normalised over may go.
    whole_heads: whether attention is cut by whole heads.
  """
  flat = flatten_model(model)
  atoms = Atoms()
  channels: list[Channels] = [Channels.none()] * len(flat.shapes)
  for number, _ in flat.inputs:
    channels[number] = fixed(atoms, flat.shapes[number], 'model input')
  traces: list[Trace] = []
  first: dict[str, Trace] = {}
  in_heads = calls_of_heads(flat) if whole_heads else set()
  for index, call in enumerate(flat.calls):
    rule = rule_of(call.layer)
    view = View(
      call,
      [channels[i] for i in call.inputs],
      [flat.shapes[i] for i in call.inputs],
      [flat.shapes[i] for i in call.outputs],
      atoms,
      first.get(call.name),
      cut_norms,
      index in in_heads,
    )
    outs = rule.trace(view)
    trace = Trace(
      call,
      rule,
      view.ins,
      outs,
      view.consumed,
      view.produced,
      view.in_shapes,
      view.out_shapes,
      view.inside,
    )
    first.setdefault(call.name, trace)
    traces.append(trace)
    for number, out in zip(call.outputs, outs):
      channels[number] = out
  for number in flat.outputs:
    atoms.protect(channels[number].labels, 'model output')
  roots = atoms.roots()
  why, reasons = atoms.reasons(roots)
  return Traced(flat, *_rooted(traces, channels, roots), why, reasons)


def _rooted(
  traces: list[Trace], channels: list[Channels], roots: np.ndarray
) -> tuple[list[Trace], list[Channels]]:
  """Replaces atoms by roots everywhere."""

  def lift(one: Channels) -> Channels:
    return Channels(one.axis, roots[one.labels])

  def lift_labels(labels: np.ndarray | None) -> np.ndarray | None:
    return None if labels is None else roots[labels]

  lifted = [
    dataclasses.replace(
      trace,
      ins=[lift(one) for one in trace.ins],
      outs=[lift(one) for one in trace.outs],
      consumed=lift_labels(trace.consumed),
      produced=lift_labels(trace.produced),
      inside={part: roots[labels] for part, labels in trace.inside.items()},
    )
    for trace in traces
  ]
  return lifted, [lift(one) for one in channels]
