"""The rows of the before/after table, shared by the terminal and the HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.chains import first_original
from secateurs.utils.deploy.reports.float_file import PLAIN, SPARSE, smallest_float_file
from secateurs.utils.deploy.reports.latency_rows import latency_rows
from secateurs.utils.deploy.reports.row import (
  Blocks,
  Row,
  plain_row,
  ratio_row,
  values_of,
  with_ratio,
)
from secateurs.utils.deploy.reports.score_rows import metric_rows, score_rows

DEPLOYED, FLOAT_TO_INT8 = 'deployed/', ', float to int8'
"""Start of the keys, and end of the labels, of rows that compare a float file with an int8 one."""


def comparison_rows(original: Mapping, pruned: Mapping | None, compressed: Mapping) -> list[Row]:
  """Returns the table's rows, in the order in which engineers look; none without information."""
  blocks = (original or {}, pruned or {}, compressed or {})
  int8 = tuple(block.get('int8') or {} for block in blocks)
  rows = _deployed_rows(blocks) + _model_rows(blocks) + _sparse_rows(blocks)
  rows += _packed_rows(blocks) + _quant_rows(blocks) + _int8_rows(int8)
  return [row for row in rows if not row.is_empty]


def report_rows(report: Mapping) -> list[Row]:
  """A report's rows; those of a chain compare what went into its first link with what came out."""
  original = first_original(report)
  pruned = report.get('pruned') if original is report['original'] else None
  return comparison_rows(original, pruned, report['compressed'])


def link_rows(report: Mapping) -> list[tuple[str, list[Row]]]:
  """Returns (learner, rows) for each link of a chain; rows that the link did not measure are skipped.

  A link is compared with its own `original`, else with what the link before it made, else with the
  report's original.
  """
  result, before = [], report['original']
  for link in report.get('links') or ():
    after = link.get('compressed') or {}
    rows = comparison_rows(link.get('original') or before, link.get('pruned'), after)
    measured = [row for row in rows if {row.pruned, row.compressed} != {units.NOTHING}]
    result.append((link.get('method') or link['learner'], measured))
    before = after or before
  return result


def changes(rows: list[Row]) -> dict[str, float]:
  """Returns the numbers of the rows' changes by key, for the rows that have one."""
  return {row.key: row.delta for row in rows if row.delta is not None}


def _deployed_rows(blocks: Blocks) -> list[Row]:
  """The full-integer file against the original's float one, where that is what was searched for."""
  if blocks[2].get('deployed') != 'int8':
    return []
  sizes = {key: blocks[0].get(f'tflite_{key}') for key in ('bytes', 'gzip_bytes')}
  original = {**blocks[0], **sizes}
  deployed = (original, *(block.get('int8') or {} for block in blocks[1:]))
  rows = [
    ratio_row('bytes', 'file size', units.fmt_bytes, deployed),
    ratio_row('gzip_bytes', 'file size, gzipped', units.fmt_bytes, deployed),
    *latency_rows(deployed)[:1],
    *score_rows(deployed)[:1],
  ]
  return [replace(row, key=DEPLOYED + row.key, label=row.label + FLOAT_TO_INT8) for row in rows]


def _model_rows(blocks: Blocks) -> list[Row]:
  return [
    *_file_rows(blocks),
    ratio_row('tflite_gzip_bytes', 'file size, gzipped', units.fmt_bytes, blocks),
    *latency_rows(blocks),
    *score_rows(blocks),
    ratio_row('loss', 'loss', units.fmt_loss, blocks, noise=None),
    *metric_rows(blocks),
    ratio_row('macs', 'MACs', units.fmt_macs, blocks),
    ratio_row('params', 'parameters', units.fmt_count, blocks),
    ratio_row('ram_bytes', 'peak activation memory', units.fmt_bytes, blocks),
    *_operator_rows(blocks),
    *_zeros_rows(blocks),
  ]


def _operator_rows(blocks: Blocks) -> list[Row]:
  """How many operators the float file has, and in how many pieces delegates run it."""
  counts = [sum((block.get('operators') or {}).values()) or None for block in blocks]
  pieces = values_of(blocks, 'delegate_partitions')
  return [
    plain_row('operators', 'operators', units.fmt_count, counts),
    plain_row('delegate_partitions', 'delegate partitions', units.fmt_count, pieces),
  ]


def _sparse_rows(blocks: Blocks) -> list[Row]:
  """Further figures of the file that skips zeros, against those of the original's plain file."""
  if not any(block.get('sparse') for block in blocks[1:]):
    return []
  original = {
    'gzip_bytes': blocks[0].get('tflite_gzip_bytes'),
    'latency': blocks[0].get('latency'),
  }
  sparse = (original, *(block.get('sparse') or {} for block in blocks[1:]))
  return [
    ratio_row('gzip_bytes', 'sparse file, gzipped', units.fmt_bytes, sparse, prefix='sparse/'),
    *latency_rows(sparse, 'sparse/')[:1],
  ]


def _packed_rows(blocks: Blocks) -> list[Row]:
  """The packed file against the original's plain one, which gzip makes little smaller."""
  if not blocks[2].get('packed'):
    return []
  original = {'bytes': blocks[0].get('tflite_bytes')}
  packed = (original, *(block.get('packed') or {} for block in blocks[1:]))
  return [ratio_row('bytes', 'packed file (.dc)', units.fmt_bytes, packed, prefix='packed/')]


def _quant_rows(blocks: Blocks) -> list[Row]:
  """The file whose weights have few bits against the original's float file."""
  if not blocks[2].get('quant'):
    return []
  original = {
    **blocks[0],
    'bytes': blocks[0].get('tflite_bytes'),
    'gzip_bytes': blocks[0].get('tflite_gzip_bytes'),
  }
  quant = (original, *(block.get('quant') or {} for block in blocks[1:]))
  return [
    ratio_row('bytes', 'quantised file size', units.fmt_bytes, quant, prefix='quant/'),
    ratio_row('gzip_bytes', 'quantised file, gzipped', units.fmt_bytes, quant, prefix='quant/'),
    *latency_rows(quant, 'quant/'),
    *score_rows(quant, 'quant/'),
    ratio_row('loss', 'quantised loss', units.fmt_loss, quant, noise=None, prefix='quant/'),
  ]


def _int8_rows(blocks: Blocks) -> list[Row]:
  return [
    ratio_row('bytes', 'int8 file size', units.fmt_bytes, blocks, prefix='int8/'),
    ratio_row('gzip_bytes', 'int8 file size, gzipped', units.fmt_bytes, blocks, prefix='int8/'),
    *latency_rows(blocks, 'int8/'),
    *score_rows(blocks, 'int8/'),
    ratio_row('loss', 'int8 loss', units.fmt_loss, blocks, noise=None, prefix='int8/'),
    *metric_rows(blocks, 'int8/'),
    ratio_row('ram_bytes', 'int8 peak activation memory', units.fmt_bytes, blocks, prefix='int8/'),
    ratio_row('arena_bytes', 'int8 arena, tflite-micro', units.fmt_bytes, blocks, prefix='int8/'),
    *_npu_rows(blocks),
  ]


def _npu_rows(blocks: Blocks) -> list[Row]:
  """What an NPU takes; none if none was asked for."""
  npus = tuple(block.get('npu') or {} for block in blocks)
  device = next((npu['device'] for npu in reversed(npus) if npu), None)
  if device is None:
    return []
  prefix = 'int8/npu/'
  shown = [
    ('cycles', 'cycles', units.fmt_count),
    ('ms', 'estimated time', units.fmt_ms),
    ('sram_bytes', 'SRAM', units.fmt_bytes),
    ('flash_bytes', 'flash', units.fmt_bytes),
  ]
  rows = [
    ratio_row(key, f'int8 {label}, {device}', show, npus, prefix=prefix)
    for key, label, show in shown
  ]
  on_cpu = values_of(npus, 'cpu_operators')
  rows.append(
    plain_row('cpu_operators', 'int8 operators on the CPU', units.fmt_count, on_cpu, prefix)
  )
  return [replace(row, int8=True) for row in rows]


def _file_rows(blocks: Blocks) -> list[Row]:
  """The smallest float file first, against the original's smallest; then the other one, if any."""
  smallest = [smallest_float_file(block) for block in blocks]
  sizes = [file.bytes if file else None for file in smallest]
  plain = [block.get('tflite_bytes') for block in blocks]
  sparse = [plain[0], *((block.get('sparse') or {}).get('bytes') for block in blocks[1:])]
  if smallest[2] and smallest[2].ending == SPARSE:
    return [_file_row(SPARSE, sizes), _file_row(PLAIN, plain)]
  rows = [_file_row(PLAIN, sizes)]
  return rows if sparse[1:] == [None, None] else [*rows, _file_row(SPARSE, sparse)]


def _file_row(ending: str, sizes: Sequence[float | None]) -> Row:
  key = {PLAIN: 'tflite_bytes', SPARSE: 'sparse/bytes'}[ending]
  row = plain_row(key, f'file size ({ending})', units.fmt_bytes, sizes)
  return with_ratio(row, sizes)


def _zeros_rows(blocks: Blocks) -> list[Row]:
  """Rows of zeros in weights; none where nothing was zeroed."""
  labels = {'sparsity': 'zeros in prunable kernels', 'sparsity_params': 'zeros in all parameters'}
  values = {key: values_of(blocks, key) for key in labels}
  return [
    plain_row(key, label, units.fmt_percent, values[key])
    for key, label in labels.items()
    if any(values[key])
  ]
