"""The rows of the before/after table, shared by the terminal and the HTML report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.chains import first_original
from secateurs.utils.deploy.reports.float_file import PLAIN, SPARSE, smallest_float_file
from secateurs.utils.deploy.reports.row import (
  SIZE_NOISE,
  TIMING_NOISE,
  Format,
  Row,
  plain_row,
  with_ratio,
)
from secateurs.utils.deploy.reports.scores import is_better, kind_of, noise_of_difference, value_of

DEPLOYED, FLOAT_TO_INT8 = 'deployed/', ', float to int8'
"""Start of the keys, and end of the labels, of rows that compare a float file with an int8 one."""

Blocks = tuple[Mapping, Mapping, Mapping]  # original, pruned, compressed


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
  original = {**blocks[0], 'bytes': blocks[0].get('tflite_bytes')}
  deployed = (original, *(block.get('int8') or {} for block in blocks[1:]))
  rows = [
    _ratio_row('bytes', 'file size', units.fmt_bytes, deployed),
    *_latency_rows(deployed)[:1],
    *_score_rows(deployed)[:1],
  ]
  return [replace(row, key=DEPLOYED + row.key, label=row.label + FLOAT_TO_INT8) for row in rows]


def _model_rows(blocks: Blocks) -> list[Row]:
  return [
    *_file_rows(blocks),
    _ratio_row('tflite_gzip_bytes', 'file size, gzipped', units.fmt_bytes, blocks),
    *_latency_rows(blocks),
    *_score_rows(blocks),
    _ratio_row('loss', 'loss', units.fmt_loss, blocks, noise=None),
    *_metric_rows(blocks),
    _ratio_row('macs', 'MACs', units.fmt_macs, blocks),
    _ratio_row('params', 'parameters', units.fmt_count, blocks),
    _ratio_row('ram_bytes', 'peak activation memory', units.fmt_bytes, blocks),
    *_operator_rows(blocks),
    *_zeros_rows(blocks),
  ]


def _operator_rows(blocks: Blocks) -> list[Row]:
  """How many operators the float file has, and in how many pieces delegates run it."""
  counts = [sum((block.get('operators') or {}).values()) or None for block in blocks]
  pieces = _values(blocks, 'delegate_partitions')
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
    _ratio_row('gzip_bytes', 'sparse file, gzipped', units.fmt_bytes, sparse, prefix='sparse/'),
    *_latency_rows(sparse, 'sparse/')[:1],
  ]


def _packed_rows(blocks: Blocks) -> list[Row]:
  """The packed file against the original's plain one, which gzip makes little smaller."""
  if not blocks[2].get('packed'):
    return []
  original = {'bytes': blocks[0].get('tflite_bytes')}
  packed = (original, *(block.get('packed') or {} for block in blocks[1:]))
  return [_ratio_row('bytes', 'packed file (.dc)', units.fmt_bytes, packed, prefix='packed/')]


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
    _ratio_row('bytes', 'quantised file size', units.fmt_bytes, quant, prefix='quant/'),
    _ratio_row('gzip_bytes', 'quantised file, gzipped', units.fmt_bytes, quant, prefix='quant/'),
    *_latency_rows(quant, 'quant/'),
    *_score_rows(quant, 'quant/'),
    _ratio_row('loss', 'quantised loss', units.fmt_loss, quant, noise=None, prefix='quant/'),
  ]


def _int8_rows(blocks: Blocks) -> list[Row]:
  return [
    _ratio_row('bytes', 'int8 file size', units.fmt_bytes, blocks, prefix='int8/'),
    _ratio_row('gzip_bytes', 'int8 file size, gzipped', units.fmt_bytes, blocks, prefix='int8/'),
    *_latency_rows(blocks, 'int8/'),
    *_score_rows(blocks, 'int8/'),
    _ratio_row('loss', 'int8 loss', units.fmt_loss, blocks, noise=None, prefix='int8/'),
    *_metric_rows(blocks, 'int8/'),
    _ratio_row('ram_bytes', 'int8 peak activation memory', units.fmt_bytes, blocks, prefix='int8/'),
    _ratio_row('arena_bytes', 'int8 arena, tflite-micro', units.fmt_bytes, blocks, prefix='int8/'),
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
    _ratio_row(key, f'int8 {label}, {device}', show, npus, prefix=prefix)
    for key, label, show in shown
  ]
  on_cpu = _values(npus, 'cpu_operators')
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


def _score_rows(blocks: Blocks, prefix: str = '') -> list[Row]:
  """Rows of the score, of what is given beside it, and of the task's further figures."""
  scores = [block.get('score') for block in blocks]
  rows = _judged_rows('score', scores, prefix)
  if rows:
    kind = kind_of(next(score for score in scores if score))
    untrained = _values(blocks, 'post_training_score')
    rows += [
      plain_row('post_training_score', 'int8, without training', kind.show, untrained, prefix),
      plain_row(
        'divergence', 'int8, divergence', units.fmt_metric, _values(blocks, 'divergence'), prefix
      ),
      *_bn_row(blocks, f'{kind.label}, BN re-estimated', kind.show),
    ]
  figures = [{f['name']: f for f in block.get('figures') or ()} for block in blocks]
  for name in dict.fromkeys(name for by_name in figures for name in by_name):
    rows += _judged_rows(f'figures/{name}', [by_name.get(name) for by_name in figures], prefix)
  return rows


def _bn_row(blocks: Blocks, label: str, show: Format) -> list[Row]:
  """The row of re-estimated BatchNorm statistics; none if that changed nothing."""
  values = _values(blocks, 'score_bn_reestimated')
  plain = [value_of(block.get('score')) for block in blocks]
  changed = any(a is not None and a != b for a, b in zip(values, plain, strict=True))
  return [plain_row('score_bn_reestimated', label, show, values)] if changed else []


def _judged_rows(key: str, scores: Sequence[Mapping | None], prefix: str) -> list[Row]:
  """The row of one score or figure, judged by its direction and noise; none if no block has it."""
  if not any(scores):
    return []
  kind = kind_of(next(score for score in scores if score))
  values = [value_of(score) for score in scores]
  row = plain_row(key, _start(prefix) + kind.label, kind.show, values, prefix)
  if values[0] is None or values[2] is None:
    return [row]
  delta, better = values[2] - values[0], is_better(scores[0], scores[2])
  known = noise_of_difference(scores[0], scores[2]) is not None
  row = replace(row, change=kind.show_difference(delta), delta=delta, better=better)
  return [replace(row, within_noise=known and better is None and delta != 0)]


def _metric_rows(blocks: Blocks, prefix: str = '') -> list[Row]:
  """Rows of the user's metrics; what is better is not known of them."""
  maps = [block.get('metrics') or {} for block in blocks]
  rows = []
  for name in dict.fromkeys(name for metrics in maps for name in metrics):
    values = [metrics.get(name) for metrics in maps]
    row = plain_row(f'metrics/{name}', _start(prefix) + name, units.fmt_metric, values, prefix)
    if values[0] is not None and values[2] is not None:
      delta = values[2] - values[0]
      row = replace(row, change=f'{delta:+.4g}', delta=delta)
    rows.append(row)
  return rows


def _zeros_rows(blocks: Blocks) -> list[Row]:
  """Rows of zeros in weights; none where nothing was zeroed."""
  labels = {'sparsity': 'zeros in prunable kernels', 'sparsity_params': 'zeros in all parameters'}
  values = {key: _values(blocks, key) for key in labels}
  return [
    plain_row(key, label, units.fmt_percent, values[key])
    for key, label in labels.items()
    if any(values[key])
  ]


def _latency_rows(blocks: Blocks, prefix: str = '') -> list[Row]:
  """Median and p90 with the fewest threads, frames per second with each number of them.

  A p90 counts as better or worse only if the median does: the slowest frames vary most.
  """
  counts = sorted({entry['threads'] for block in blocks for entry in block.get('latency') or ()})
  if not counts:
    return []
  median, p90 = (
    _latency_row(blocks, counts[0], key, f'latency {name}', units.fmt_ms, prefix)
    for key, name in (('p50_ms', 'median'), ('p90_ms', 'p90'))
  )
  if median.better is None:
    p90 = replace(p90, better=None, within_noise=median.within_noise)
  return [
    median,
    p90,
    *(_latency_row(blocks, n, 'fps', 'frames/s', units.fmt_fps, prefix) for n in counts),
    *_throughput_rows(blocks, prefix),
  ]


def _throughput_rows(blocks: Blocks, prefix: str) -> list[Row]:
  """Frames per second of several streams; their own row, apart from a single stream's."""
  entries = [next(iter(block.get('throughput') or ()), {}) for block in blocks]
  first = next((entry for entry in entries if entry), None)
  if first is None:
    return []
  values = [entry.get('fps') for entry in entries]
  streams = first['streams']
  label = f'{_start(prefix)}throughput, frames/s of {streams} stream{"s" if streams > 1 else ""}'
  row = plain_row(f'throughput/{streams}', f'{label}{_cores(first)}', units.fmt_fps, values, prefix)
  spreads = [entry.get('spread', 0) / 2 for entry in (entries[0], entries[2])]
  row = with_ratio(row, values, max(TIMING_NOISE, sum(spreads)), more_is_better=True)
  return [replace(row, within_noise=row.better is None and row.share not in (None, 1))]


def _cores(entry: Mapping) -> str:
  cores = entry.get('cores')
  return f' on {cores} core{"s" if cores > 1 else ""}' if cores else ''


def _latency_row(
  blocks: Blocks, threads: int, key: str, name: str, show: Format, prefix: str
) -> Row:
  entries = [
    next((entry for entry in block.get('latency') or () if entry['threads'] == threads), {})
    for block in blocks
  ]
  values = [entry.get(key) for entry in entries]
  label = f'{_start(prefix)}{name}, {threads} thread{"s" if threads > 1 else ""}'
  label += _cores(next((entry for entry in entries if entry), {}))
  if any(entry.get('settled') is False for entry in entries):
    label += ', not settled'
  row = plain_row(f'latency/{threads}/{key}', label, show, values, prefix)
  # Half an interval is how far each median may be off.
  spreads = [(entry.get('spread') or 0) / 2 for entry in (entries[0], entries[2])]
  row = with_ratio(row, values, max(TIMING_NOISE, sum(spreads)), more_is_better=key == 'fps')
  return replace(row, within_noise=row.better is None and row.share not in (None, 1))


def _ratio_row(
  key: str,
  label: str,
  show: Format,
  blocks: Blocks,
  noise: float | None = SIZE_NOISE,
  prefix: str = '',
) -> Row:
  values = _values(blocks, key)
  return with_ratio(plain_row(key, label, show, values, prefix), values, noise)


def _values(blocks: Blocks, key: str) -> list[float | None]:
  return [block.get(key) for block in blocks]


def _start(prefix: str) -> str:
  return prefix.replace('/', ' ')
