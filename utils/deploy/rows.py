"""The rows of the before/after table, shared by the terminal and the HTML report."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secateurs.utils.deploy import units

_ACCURACY_NOISE = 0.003  # the noise of 10,000 images; less is called neither better nor worse
_TIMING_NOISE = 0.05  # a latency that changes by less is called neither better nor worse

Getter = Callable[[Mapping], float | None]


@dataclass(frozen=True)
class Row:
  """One quantity before, in between and after.

  Attributes:
    key: what it is, for those who pick rows, e.g. 'tflite_bytes' or 'latency/1/p50_ms'.
    label: the same for people.
    original, pruned, compressed: formatted values, '-' when not measured.
    change: compressed against original: '0.27x', '-0.31 pt' for accuracies, '-0.0123' for the user's
      metrics; '-' without both.
    delta: the number behind `change`: compressed / original, or the difference.
    share: compressed / original when `change` is a ratio, else None.
    better: whether the change is an improvement; None when it is neither, or unknown.
    int8: whether the row is about the full-integer file.
  """

  key: str
  label: str
  original: str
  pruned: str
  compressed: str
  change: str
  delta: float | None
  share: float | None
  better: bool | None
  int8: bool = False

  @property
  def is_empty(self) -> bool:
    """Whether nothing in the row was measured."""
    return {self.original, self.pruned, self.compressed} == {units.NOTHING}


def comparison_rows(original: Mapping, pruned: Mapping | None, compressed: Mapping) -> list[Row]:
  """Returns the table's rows, in the order in which engineers look; none that is all empty."""
  blocks = (original or {}, pruned or {}, compressed or {})
  rows = _model_rows(blocks)
  rows += _sparse_rows(blocks)
  int8_blocks = tuple(block.get('int8') or {} for block in blocks)
  rows += _int8_rows(int8_blocks)
  return [row for row in rows if not row.is_empty]


def report_rows(report: Mapping) -> list[Row]:
  """A report's rows; those of a chain compare what went into its first link with what came out."""
  original = first_original(report)
  pruned = report.get('pruned') if original is report['original'] else None
  return comparison_rows(original, pruned, report['compressed'])


def first_original(report: Mapping) -> Mapping[str, Any]:
  """The original's block; of a chain what went into its first link, timed as by the last one.

  A link times what it was given beside what it made, so that the same network timed twice tells by how
  much the machine was slower.
  """
  links = report.get('links') or ()
  if not links or not links[0].get('original'):
    return report['original']
  factors = dict.fromkeys(_medians(links[0]['original']), 1.0)
  for earlier, later in itertools.pairwise(links):
    then, now = (_medians(b) for b in (earlier.get('compressed'), later.get('original')))
    factors = {
      threads: factor * now[threads] / then[threads]
      for threads, factor in factors.items()
      if then.get(threads) and now.get(threads)
    }
  block = dict(links[0]['original'])
  for name in ('int8', 'sparse'):
    if block.get(name):
      block[name] = _on_another_clock(block[name], factors)
  return _on_another_clock(block, factors)


def _medians(block: Mapping | None) -> dict[int, float]:
  return {entry['threads']: entry['p50_ms'] for entry in (block or {}).get('latency') or ()}


def _on_another_clock(block: Mapping, factors: Mapping[int, float]) -> dict[str, Any]:
  if not block.get('latency'):
    return dict(block)
  timed = [
    {
      'threads': entry['threads'],
      'p50_ms': entry['p50_ms'] * factors[entry['threads']],
      'p90_ms': entry['p90_ms'] * factors[entry['threads']],
      'fps': entry['fps'] / factors[entry['threads']],
    }
    for entry in block['latency']
    if entry['threads'] in factors
  ]
  return {**block, 'latency': timed}


def changes(rows: list[Row]) -> dict[str, float]:
  """Returns the numbers behind the rows' changes by key, for the rows that have one."""
  return {row.key: row.delta for row in rows if row.delta is not None}


def link_rows(report: Mapping) -> list[tuple[str, list[Row]]]:
  """Returns (learner, rows) for each link of a chain; rows that the link measured nothing for fall.

  A link is compared with its own `original`, else with what the link before it made, else with the
  report's original.
  """
  result, before = [], report['original']
  for link in report.get('links') or ():
    after = link.get('compressed') or {}
    rows = comparison_rows(link.get('original') or before, link.get('pruned'), after)
    measured = [row for row in rows if {row.pruned, row.compressed} != {units.NOTHING}]
    result.append((link['learner'], measured))
    before = after or before
  return result


def _model_rows(blocks: tuple[Mapping, ...]) -> list[Row]:
  return [
    _row(blocks, 'tflite_bytes', 'file size (.tflite)', units.fmt_bytes, 'less'),
    _row(blocks, 'tflite_gzip_bytes', 'file size, gzipped', units.fmt_bytes, 'less'),
    *_latency_rows(blocks),
    _row(blocks, 'accuracy', 'accuracy', units.fmt_percent, 'points'),
    _row(blocks, 'accuracy_top5', 'accuracy, top 5', units.fmt_percent, 'points'),
    _row(blocks, 'accuracy_bn_reestimated', 'accuracy, BN re-estimated', units.fmt_percent, ''),
    _row(blocks, 'loss', 'loss', units.fmt_loss, 'less'),
    *_metric_rows(blocks),
    _row(blocks, 'macs', 'MACs', units.fmt_macs, 'less'),
    _row(blocks, 'params', 'parameters', units.fmt_count, 'less'),
    _row(blocks, 'sparsity', 'zeros in prunable kernels', units.fmt_percent, ''),
    _row(blocks, 'sparsity_params', 'zeros in all parameters', units.fmt_percent, ''),
  ]


def _sparse_rows(blocks: tuple[Mapping, ...]) -> list[Row]:
  """Rows of the file that leaves zeros out, against the original's file, which has none to leave."""
  if not any(block.get('sparse') for block in blocks):
    return []
  original = blocks[0]
  plain = {
    'bytes': original.get('tflite_bytes'),
    'gzip_bytes': original.get('tflite_gzip_bytes'),
    'latency': original.get('latency'),
  }
  packed = (plain, *(block.get('sparse') or {} for block in blocks[1:]))
  return [
    _row(packed, 'bytes', 'sparse file size', units.fmt_bytes, 'less', prefix='sparse/'),
    _row(packed, 'gzip_bytes', 'sparse file, gzipped', units.fmt_bytes, 'less', prefix='sparse/'),
    *_latency_rows(packed, 'sparse/')[:1],
  ]


def _int8_rows(blocks: tuple[Mapping, ...]) -> list[Row]:
  return [
    _row(blocks, 'bytes', 'int8 file size', units.fmt_bytes, 'less', prefix='int8/'),
    _row(blocks, 'gzip_bytes', 'int8 file size, gzipped', units.fmt_bytes, 'less', prefix='int8/'),
    *_latency_rows(blocks, prefix='int8/'),
    _row(blocks, 'accuracy', 'int8 accuracy', units.fmt_percent, 'points', prefix='int8/'),
    _row(
      blocks,
      'post_training_accuracy',
      'int8, without training',
      units.fmt_percent,
      'points',
      prefix='int8/',
    ),
    _row(
      blocks, 'accuracy_top5', 'int8 accuracy, top 5', units.fmt_percent, 'points', prefix='int8/'
    ),
    _row(blocks, 'loss', 'int8 loss', units.fmt_loss, 'less', prefix='int8/'),
    *_metric_rows(blocks, prefix='int8/'),
  ]


def _metric_rows(blocks: tuple[Mapping, ...], prefix: str = '') -> list[Row]:
  """Rows of the user's metrics; what is better is not known of them."""
  names = dict.fromkeys(name for block in blocks for name in block.get('metrics') or ())
  start = prefix.replace('/', ' ')
  return [
    _row(
      blocks,
      f'metrics/{name}',
      f'{start}{name}',
      units.fmt_metric,
      'difference',
      lambda block, name=name: (block.get('metrics') or {}).get(name),
      prefix,
    )
    for name in names
  ]


def _latency_rows(blocks: tuple[Mapping, ...], prefix: str = '') -> list[Row]:
  start = prefix.replace('/', ' ')
  counts = sorted({entry['threads'] for block in blocks for entry in block.get('latency') or ()})
  rows = []
  for key, name in (('p50_ms', 'median'), ('p90_ms', 'p90')):
    for threads in counts[:1]:
      label = f'{start}latency {name}, {_threads(threads)}'
      getter = _latency_getter(threads, key)
      path = f'latency/{threads}/{key}'
      rows.append(_row(blocks, path, label, units.fmt_ms, 'less', getter, prefix=prefix))
  for threads in counts:
    label = f'{start}frames/s, {_threads(threads)}'
    getter = _latency_getter(threads, 'fps')
    path = f'latency/{threads}/fps'
    rows.append(_row(blocks, path, label, units.fmt_fps, 'more', getter, prefix=prefix))
  return rows


def _threads(count: int) -> str:
  return f'{count} thread' + ('s' if count > 1 else '')


def _latency_getter(threads: int, key: str) -> Getter:
  def get(block: Mapping) -> float | None:
    for entry in block.get('latency') or ():
      if entry['threads'] == threads:
        return entry[key]
    return None

  return get


def _row(
  blocks: tuple[Mapping, ...],
  key: str,
  label: str,
  fmt: Callable[[float | None], str],
  good: str,
  getter: Getter | None = None,
  prefix: str = '',
) -> Row:
  """Makes a row; `good` says what is better: 'less', 'more', 'points' (more, as a difference);
  'difference' is one of which nothing is better.
  """
  before, between, after = (getter(b) if getter else b.get(key) for b in blocks)
  change, delta, share, better = units.NOTHING, None, None, None
  if good and before is not None and after is not None:
    if good == 'points':
      delta = after - before
      change = f'{100 * delta:+.2f} pt'
      better = None if abs(delta) <= _ACCURACY_NOISE else after > before
    elif good == 'difference':
      delta = after - before
      change = f'{delta:+.4g}'
    elif before > 0:  # A loss of the user's may be negative, where a ratio says nothing.
      delta = share = after / before
      change = f'{share:.2f}x'
      noise = _TIMING_NOISE if getter else 0.005
      better = None if abs(share - 1) < noise else (share > 1) == (good == 'more')
  return Row(
    key=prefix + key,
    label=label,
    original=fmt(before),
    pruned=fmt(between),
    compressed=fmt(after),
    change=change,
    delta=delta,
    share=share,
    better=better,
    int8=prefix == 'int8/',
  )


def title(report: Mapping) -> str:
  """One line that says what was run, e.g. 'weight-sparse: resnet20 on cifar10, seed 0'."""
  return f'{report["learner"]}: {report["net"]} on {report["dataset"]}, seed {report["seed"]}'


_NAMES = {
  'prune_ratio': 'removed part',
  'channels_ratio': 'input channels ratio',
  'macs_ratio': 'MACs ratio',
  'params_ratio': 'parameters ratio',
  'latency_ratio': 'latency ratio',
  'sparsity': 'zeros in prunable kernels',
  'sparsity_params': 'zeros in all parameters',
}


def goals(report: Mapping) -> list[tuple[str, str, str]]:
  """Returns (name, requested, achieved) for everything that was requested."""
  achieved = report.get('achieved') or {}
  return [
    (_NAMES.get(key, key), _value(value), _value(achieved.get(key)))
    for key, value in (report.get('requested') or {}).items()
  ]


def _value(value: object) -> str:
  if value is None:
    return units.NOTHING
  return f'{value:.4g}' if isinstance(value, float) else str(value)
