"""Normalisation and activations that serve one reader alone, such as those before a convolution."""

from __future__ import annotations

import numpy as np

from secateurs.utils.graph.flat.selection import ChannelSelection
from secateurs.utils.graph.flat.walk import Call, FlatModel
from secateurs.utils.graph.rules.activations import acts_on_channels_apart
from secateurs.utils.graph.rules.base import Trace
from secateurs.utils.graph.rules.elementwise import Activation, Elementwise
from secateurs.utils.graph.rules.norms import BatchNorm


def own_chains(flat: FlatModel, traces: dict[str, Trace]) -> dict[str, str]:
  """Layers that treat every channel apart, on the way to one layer that may choose its inputs.

  Where that layer drops input channels, these need not compute them: in a pre-activation network the
  batch normalisation after a residual sum is as narrow as the convolution that follows it.

  Args:
    flat: the network.
    traces: of the first call of each layer.

  Returns:
    For each such layer the name of the one that reads it. A way begins with a normalisation; others
    are left out.
  """
  times = {name: len(calls) for name, calls in flat.calls_by_layer().items()}
  makers = {number: call for call in flat.calls for number in call.outputs}
  readers: dict[int, int] = dict.fromkeys(
    flat.outputs, 2
  )  # An output has readers that we don't see.
  for call in flat.calls:
    for number in call.inputs:
      readers[number] = readers.get(number, 0) + 1
  found: dict[str, str] = {}
  for name, trace in traces.items():
    if trace.consumed is None or times[name] > 1 or not trace.rule.rows_are_own(trace.call.layer):
      continue
    way: list[tuple[str, bool]] = []
    number = trace.call.inputs[0]
    while readers[number] == 1 and number in makers:
      call = makers[number]
      above = traces[call.name]
      if times[call.name] > 1 or not _apart(above, trace.ins[0].axis):
        break
      way.append((call.name, isinstance(above.rule, BatchNorm)))
      number = call.inputs[0]
    norms = [i for i, (_, norm) in enumerate(way) if norm]
    found.update((one, name) for one, _ in way[: norms[-1] + 1 if norms else 0])
  return found


def passes_all(call: Call, size: int) -> bool:
  """Whether a call is a selection of all of its `size` channels, in their order."""
  layer = call.layer
  return isinstance(layer, ChannelSelection) and layer.indices == list(range(size))


def _apart(trace: Trace, axis: int | None) -> bool:
  """Whether a call treats every channel on an axis by itself."""
  layer, (channels, *more) = trace.call.layer, trace.ins
  if more or channels.axis != axis or len(trace.outs) != 1:
    return False
  if isinstance(trace.rule, BatchNorm):
    return len(np.atleast_1d(layer.axis)) == 1
  if isinstance(trace.rule, Activation):
    return acts_on_channels_apart(layer.activation)
  return isinstance(trace.rule, Elementwise) or passes_all(trace.call, len(channels.labels))
