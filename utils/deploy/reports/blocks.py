"""Builds the parts of a report from what was measured."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from secateurs.utils import processor

if TYPE_CHECKING:
  from secateurs.utils.deploy.files.export import Export, ExportedFile
  from secateurs.utils.deploy.runtime.operators import Operators
  from secateurs.utils.graph import ModelCount

UNSTRUCTURED_NOTE = (
  'The zeros are unstructured: by themselves they reduce neither the latency nor the size of the '
  'plain .tflite file. They reduce the size of the sparse .tflite file, which skips them (it is '
  'decompressed when it is loaded, and then runs as fast as the plain one), the size after gzip, and '
  'the latency with sparse kernels.'
)


def model_block(
  *,
  evaluation: Mapping | None = None,
  count: 'ModelCount | None' = None,
  export: 'Export | None' = None,
  operators: 'Operators | None' = None,
  latency: Sequence[Mapping] | None = None,
  int8: Mapping | None = None,
  int8_latency: Sequence[Mapping] | None = None,
  quant: Mapping | None = None,
  **measured: float | None,
) -> dict[str, Any]:
  """Returns an `original`, `pruned` or `compressed` block.

  Args:
    evaluation: what the task made of the model's outputs, in the form of a block: score, figures,
      loss, metrics, and for classification accuracy, accuracy_top5.
    count: MACs and parameters of the exported model.
    export: its files; gives the sizes.
    operators: of the float file.
    latency: the float file's entry of `measure_latency`.
    int8: as `evaluation`, of the full-integer file; also post_training_score where that file comes
      from quantisation-aware training.
    int8_latency: the integer file's entry of `measure_latency`.
    quant: as `evaluation`, of the file whose weights have few bits.
    **measured: any other key of a block, e.g. sparsity, sparsity_params, score_bn_reestimated.
  """
  block: dict[str, Any] = {**(evaluation or {}), **measured}
  if count is not None:
    block.update(params=count.params, macs=count.macs)
  if export is not None:
    if export.tflite is not None:
      block.update(tflite_bytes=export.tflite.bytes, tflite_gzip_bytes=export.tflite.gzip_bytes)
    if export.left_out:
      block['left_out'] = dict(export.left_out)
    if export.notes:
      block['file_notes'] = list(export.notes)
    if export.tflite_sparse is not None:
      block['sparse'] = _sizes(export.tflite_sparse)
    if 'tflite_quant' in export.further:
      block['quant'] = {**(quant or {}), **_sizes(export.further['tflite_quant'])}
    if 'dc' in export.further:
      block['packed'] = _sizes(export.further['dc'])
  if operators is not None:
    block.update(operators=operators.kinds, delegate_partitions=operators.partitions)
  if latency is not None:
    block['latency'] = [dict(entry) for entry in latency]
  of_int8 = dict(int8 or {})
  if export is not None and export.tflite_int8 is not None:
    of_int8.update(_sizes(export.tflite_int8))
  if int8_latency is not None:
    of_int8['latency'] = [dict(entry) for entry in int8_latency]
  if of_int8:
    block['int8'] = of_int8
  return block


def _sizes(file: 'ExportedFile') -> dict[str, int]:
  return {'bytes': file.bytes, 'gzip_bytes': file.gzip_bytes}


def achieved(
  original: Mapping, compressed: Mapping, **further: float | None
) -> dict[str, float | None]:
  """Returns the `achieved` figures of two blocks.

  Ratios are compressed / original; prune_ratio is the removed part of the MACs when channels were
  removed, else the sparsity.

  Args:
    original: block of the model before.
    compressed: block of the exported model.
    **further: figures that the learner knows, such as channels_ratio.
  """
  figures = {
    'macs_ratio': _ratio(original.get('macs'), compressed.get('macs')),
    'params_ratio': _ratio(original.get('params'), compressed.get('params')),
    'latency_ratio': _ratio(median_latency(original), median_latency(compressed)),
    'ram_ratio': _ratio(original.get('ram_bytes'), compressed.get('ram_bytes')),
    'sparsity': compressed.get('sparsity'),
    'sparsity_params': compressed.get('sparsity_params'),
  }
  macs_ratio, sparsity = figures['macs_ratio'], figures['sparsity']
  removed = macs_ratio is not None and macs_ratio < 1
  return {'prune_ratio': 1 - macs_ratio if removed else sparsity, **figures, **further}


def median_latency(block: Mapping) -> float | None:
  """Median latency of a block's float file at the fewest threads, in ms; None if not measured."""
  entries = block.get('latency') or ()
  return min(entries, key=lambda entry: entry['threads'])['p50_ms'] if entries else None


def _ratio(original: float | None, compressed: float | None) -> float | None:
  if original is None or compressed is None or not original:
    return None
  return compressed / original


def layer_rows(
  original: 'ModelCount', compressed: 'ModelCount', sparsity: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
  """Returns the report's `layers`: the original's layers with what remains of each.

  A layer that the compressed model no longer has gets zeros.

  Args:
    original: count of the model before.
    compressed: count of the exported model.
    sparsity: layer name -> fraction of zeros in its kernel, in [0, 1].
  """
  kept = {layer.name: layer for layer in compressed.layers}
  rows = []
  for layer in original.layers:
    after = kept.get(layer.name)
    row = {'name': layer.name, 'type': layer.type}
    for key in ('in_channels', 'out_channels', 'macs', 'params'):
      row[key] = [getattr(layer, key), getattr(after, key) if after else 0]
    row['sparsity'] = (sparsity or {}).get(layer.name)
    rows.append(row)
  return rows


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
  """Returns the versions that a run used: Python, the machine, and the main packages.

  Args:
    packages: further distributions to name; those that are not installed are skipped.
  """
  names = [
    'secateurs',
    'tensorflow',
    'tf-keras',
    'tensorflow-model-optimization',
    'numpy',
    *packages,
  ]
  found = {
    'python': platform.python_version(),
    'platform': platform.platform(),
    'processor': processor.describe(),
  }
  for name in names:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return found
