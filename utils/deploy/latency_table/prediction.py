"""Predicts the latency of a sliced network from a table, before it is built."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateurs.utils.deploy.latency_table.segments import Segment, network_key, segments_of
from secateurs.utils.deploy.latency_table.table import LatencyTable
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, Plan


class SegmentChannels:
  """Channels that the segments of a network take and make, for any plan of slicing."""

  def __init__(self, graph: ChannelGraph) -> None:
    """`graph`: of the network."""
    flat = graph.traced.flat
    self.segments = segments_of(flat)
    self._traces = {id(trace.call): trace for trace in graph.traced.traces}

  def at(self, plan: Plan) -> np.ndarray:
    """[segments, 2]: channels of the input and of the output that stay, see `segments.build`."""
    rows = []
    for segment in self.segments:
      first = plan.cut(self._traces[id(segment.calls[0])])
      made = _count(first.outs, segment.out_channels)
      taken = _count(first.ins, segment.in_shapes[0][-1]) if segment.makes else made
      rows.append((taken, made))
    return np.array(rows, float).reshape(-1, 2)


def _count(masks: Sequence[np.ndarray], whole: int | None) -> int:
  """Channels that stay; all where none are tracked."""
  if not masks or not len(masks[0]):
    return int(whole or 1)
  return int(masks[0].sum())


class LatencyForm:
  """Latency in closed form, where channels go in several units and only their numbers matter."""

  def __init__(
    self, table: LatencyTable, graph: ChannelGraph, whole: Plan, less: Sequence[Plan]
  ) -> None:
    """Plans the network once for each unit.

    Args:
      table: of the device.
      graph: of the network.
      whole: the plan in which all channels stay.
      less: for each unit the plan in which one of its channels is gone.

    Raises:
      UserError: the table lacks the network's layers.
    """
    channels = SegmentChannels(graph)
    self._base = channels.at(whole)
    self._slopes = np.array([self._base - channels.at(plan) for plan in less])
    self._segments = channels.segments
    self._table, self._scale = table, table.scale_of(network_key(channels.segments))
    require_known(table, self._segments, graph.model.name)
    self._known: dict[tuple[str, float, float], float] = {}

  def __call__(self, gone: Sequence[int]) -> float:
    """Latency in ms when `gone[u]` channels of unit u have gone."""
    gone = np.asarray(gone, float)
    counts = self._base - np.tensordot(gone, self._slopes, axes=1) if len(gone) else self._base
    total = sum(
      self._time(segment, *row)
      for segment, row in zip(self._segments, counts.tolist(), strict=True)
    )
    return self._scale.ms(total)

  def _time(self, segment: Segment, taken: float, made: float) -> float:
    times = self._table.segments.get(segment.key)
    if times is None:
      return 0.0
    key = segment.key, taken, made
    if key not in self._known:
      self._known[key] = times.at(taken, made)
    return self._known[key]


def segment_sum(table: LatencyTable, graph: ChannelGraph, plan: Plan) -> float:
  """Sum of the segments' times in ms of the network that a plan describes."""
  channels = SegmentChannels(graph)
  pairs = zip(channels.segments, channels.at(plan).tolist(), strict=True)
  return sum(
    table.segments[segment.key].at(*row) for segment, row in pairs if segment.key in table.segments
  )


def require_known(table: LatencyTable, segments: Sequence[Segment], name: str) -> None:
  """Checks that a table was made for such a network.

  Raises:
    UserError: it lacks layers with weights.
  """
  lacking = [one.text for one in segments if one.makes and one.key not in table.segments]
  if lacking:
    raise UserError(
      f'The table of latencies lacks {len(lacking)} layers of {name}, such as {lacking[0]}: make it '
      'for this network with python -m secateurs.utils.deploy.latency_table, which adds to the file.'
    )
