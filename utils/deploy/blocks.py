"""Builds the parts of a report from what was measured."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from secateurs.utils.deploy.export import Export
  from secateurs.utils.graph import ModelCount

UNSTRUCTURED_NOTE = (
  'The zeros are unstructured: by themselves they cut neither the latency nor the size of the plain '
  '.tflite file. They pay off in the sparse .tflite file, which leaves them out (it is unpacked when '
  'it is loaded, and runs as fast as the plain one), after gzip, or with sparse kernels.'
)


def model_block(
  *,
  evaluation: Mapping | None = None,
  int8: Mapping | None = None,
  count: 'ModelCount | None' = None,
  export: 'Export | None' = None,
  latency: Sequence[Mapping] | None = None,
  int8_latency: Sequence[Mapping] | None = None,
  int8_accuracy: float | None = None,
  int8_post_training_accuracy: float | None = None,
  metrics: Mapping[str, float] | None = None,
  int8_metrics: Mapping[str, float] | None = None,
  **measured: float | None,
) -> dict[str, Any]:
  """Returns an `original`, `pruned` or `compressed` block.

  Args:
    count: MACs and parameters of the exported model.
    export: its files; gives the sizes.
    latency: the float file's entry of `measure_latency`.
    int8_latency: the integer file's entry.
    int8_accuracy: accuracy of the integer file, in [0, 1].
    int8_post_training_accuracy: that of the one which quantisation after training gave, where the
      integer file comes from quantisation-aware training.
    metrics: the user's metrics by name.
    int8_metrics: those of the integer file.
    **measured: any other key of a block, e.g. accuracy, accuracy_top5, loss, sparsity,
      sparsity_params.
  """
  block: dict[str, Any] = {**(evaluation or {}), **measured}
  if metrics:
    block['metrics'] = dict(metrics)
  if count is not None:
    block.update(params=count.params, macs=count.macs)
  if export is not None:
    block.update(tflite_bytes=export.tflite.bytes, tflite_gzip_bytes=export.tflite.gzip_bytes)
  if latency is not None:
    block['latency'] = [dict(entry) for entry in latency]
  int8 = dict(int8 or {})
  if export is not None and export.tflite_int8 is not None:
    int8.update(bytes=export.tflite_int8.bytes, gzip_bytes=export.tflite_int8.gzip_bytes)
  if int8_latency is not None:
    int8['latency'] = [dict(entry) for entry in int8_latency]
  if int8_accuracy is not None:
    int8['accuracy'] = int8_accuracy
  if int8_post_training_accuracy is not None:
    int8['post_training_accuracy'] = int8_post_training_accuracy
  if int8_metrics:
    int8['metrics'] = dict(int8_metrics)
  if int8:
    block['int8'] = int8
  if export is not None and export.tflite_sparse is not None:
    file = export.tflite_sparse
    block['sparse'] = {'bytes': file.bytes, 'gzip_bytes': file.gzip_bytes}
  return block


def achieved(
  original: Mapping, compressed: Mapping, **further: float | None
) -> dict[str, float | None]:
  """Returns the `achieved` figures of two blocks.

  Ratios are compressed / original; prune_ratio is the removed part of the MACs when channels went,
  else the sparsity.

  Args:
    original: block of the model before.
    compressed: block of the exported model.
    **further: figures that the learner knows, such as channels_ratio.
  """
  figures = {
    'macs_ratio': _ratio(original.get('macs'), compressed.get('macs')),
    'params_ratio': _ratio(original.get('params'), compressed.get('params')),
    'latency_ratio': _ratio(median_latency(original), median_latency(compressed)),
    'sparsity': compressed.get('sparsity'),
    'sparsity_params': compressed.get('sparsity_params'),
  }
  macs_ratio, sparsity = figures['macs_ratio'], figures['sparsity']
  went = macs_ratio is not None and macs_ratio < 1
  return {'prune_ratio': 1 - macs_ratio if went else sparsity, **figures, **further}


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
  """Returns the report's `layers`: the original's layers with what is left of each.

  A layer that the compressed model no longer has is left with zeros.

  Args:
    original: count of the model before.
    compressed: count of the exported model.
    sparsity: layer name -> share of zeros in its kernel, in [0, 1].
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
  """Returns the versions behind a run: Python, the machine, and the main packages.

  Args:
    packages: further distributions to name; those that are not installed are left out.
  """
  names = [
    'secateurs',
    'tensorflow',
    'tf-keras',
    'tensorflow-model-optimization',
    'numpy',
    *packages,
  ]
  found = {'python': platform.python_version(), 'platform': platform.platform()}
  for name in names:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return found
