"""Node data for Model Explorer, a viewer of .tflite files: values that colour its nodes.

One file holds one series: the value of each node by the name of its output tensor, and the colours of
values up to a threshold (the viewer's custom node data).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.utils.deploy.int8.opened import OpenFile, with_kernels
from secateurs.utils.files import atomic_path

_COLOURS = ('#2f9e6e', '#a8c256', '#e0b22b', '#e0822b', '#d1495b')


def node_data(values: Mapping[str, float], *, high_is_bad: bool) -> dict[str, Any]:
  """One series as the viewer reads it.

  Args:
    values: by the name of the output tensor.
    high_is_bad: whether the greatest values are red; else the least are.
  """
  colours = _COLOURS if high_is_bad else _COLOURS[::-1]
  ends = np.quantile(list(values.values()), np.linspace(0.2, 1, len(colours))) if values else []
  return {
    'results': {name: {'value': float(value)} for name, value in values.items()},
    'thresholds': [
      {'value': float(end), 'bgColor': colour} for end, colour in zip(ends, colours, strict=False)
    ],
  }


def kept_shares(content: bytes, layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Fraction of its channels that each layer with a kernel has kept, by output tensor.

  Args:
    content: of the float .tflite file.
    layers: the report's `layers`.
  """
  shares = {
    one['name']: one['out_channels'][1] / one['out_channels'][0]
    for one in layers
    if one['macs'][0] and one['out_channels'][0]
  }
  file, found = OpenFile(content), {}
  for op in with_kernels(file):
    name = file.name(op.outputs[0])
    parts = [part for part in re.split(r'[;/:]', name) if part in shares]
    if not parts and op.outputs[0] in file.outputs:  # Which the converter names after no layer.
      parts = list(shares)
    if parts:
      found[name] = shares[parts[-1]]
  return found


def write_node_data(report: Mapping[str, Any], tflite: Path, folder: Path) -> list[Path]:
  """Writes `node_data_kept.json` and, where it was measured, `node_data_int8.json`.

  Args:
    report: of a run.
    tflite: its float file, which the viewer opens.
    folder: where the report is.

  Returns:
    The files.
  """
  series = {
    'kept': node_data(kept_shares(tflite.read_bytes(), report['layers']), high_is_bad=False)
  }
  int8 = report.get('int8_layers')
  if int8:
    values = {one['tensor']: one['alone'] or 0.0 for one in int8['layers']}
    series['int8'] = node_data(values, high_is_bad=True)
  return [write_series(folder, name, content) for name, content in series.items()]


def write_series(folder: Path, name: str, content: Mapping[str, Any]) -> Path:
  """Writes one series, see `node_data`, to `node_data_<name>.json`."""
  path = folder / f'node_data_{name}.json'
  with atomic_path(path) as partial:
    partial.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
  return path
