"""A table of the milliseconds that Vela estimates for an Ethos-U NPU, segment by segment."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tf_keras as keras

from secateurs.utils.deploy.devices.vela import devices, is_installed, npu_cost
from secateurs.utils.deploy.latency_table.files import Point, content_of, segment_content
from secateurs.utils.deploy.latency_table.measure import (
  FRACTIONS,
  Say,
  distinct,
  plan_at,
  scale_of,
)
from secateurs.utils.deploy.latency_table.prediction import segment_sum
from secateurs.utils.deploy.latency_table.segments import network_key, segments_of
from secateurs.utils.deploy.latency_table.table import LatencyTable, SegmentTimes
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.graph import ChannelGraph, apply_plan

KIND = 'int8'


def make_npu_table(
  table: LatencyTable, graph: ChannelGraph, path: Path, say: Say, *, step: int | None = None
) -> None:
  """Adds a network's segments and its scale to a table, and writes it after each.

  Estimates have no noise: how wide the device likes layers to be is in the table as it is.

  Args:
    table: of the NPU `table.device`; segments that it has are not compiled again.
    graph: of the network.
    path: where it is written.
    say: prints.
    step: for tests: take each so many-th point only.

  Raises:
    UserError: Vela is not installed or does not know the device.
  """
  for segment, axes in distinct(graph.traced.flat):
    if segment.key in table.segments:
      continue
    if step:
      axes = tuple(sorted({*axis[::step], axis[-1]}) for axis in axes)
    inputs, outputs = axes
    try:
      ms = [
        [
          _ms(segment_content(segment, Point(taken, made if segment.makes else taken), KIND), table)
          for made in outputs
        ]
        for taken in inputs
      ]
    except (RuntimeError, ValueError) as error:
      say(f'{segment.text}: cannot be compiled alone ({first_line(error)})')
      continue
    made = outputs if segment.makes else [1]
    table.segments[segment.key] = SegmentTimes(segment.text, inputs, made, ms)
    say(f'{segment.text}: {np.min(ms):.4f} to {np.max(ms):.4f} ms')
    table.write(path)
  plans = [plan_at(graph, fraction) for fraction in FRACTIONS]
  whole = [_ms(content_of(apply_plan(plan), KIND), table) for plan in plans]
  sums = [segment_sum(table, graph, plan) for plan in plans]
  table.networks[network_key(segments_of(graph.traced.flat))] = scale_of(sums, whole)
  table.write(path)


def is_of_npu(table: LatencyTable) -> bool:
  """Whether a table is of an NPU that the compiler that is installed knows."""
  return table.kind == KIND and is_installed() and table.device in devices()


def whole_ms(model: keras.Model, table: LatencyTable) -> float:
  """Milliseconds that Vela estimates for a whole network on the NPU of a table.

  Raises:
    UserError: the network cannot be quantised, or Vela refuses its file.
  """
  try:
    return _ms(content_of(model, KIND), table)
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f'The full-integer file of {model.name} cannot be compiled for {table.device} '
      f'({first_line(error)}): give a target in MACs or memory.'
    ) from error


def _ms(content: bytes, table: LatencyTable) -> float:
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / 'segment.tflite'
    file.write_bytes(content)
    try:
      return npu_cost(file, table.device).ms
    except UserError as error:
      if 'cannot compile' not in str(error):
        raise
      raise RuntimeError(str(error)) from error
