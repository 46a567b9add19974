"""Rows of how good a network is: its score, further figures of its task, and the user's metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.row import Blocks, Format, Row, plain_row, start_of, values_of
from secateurs.utils.deploy.reports.scores import is_better, kind_of, noise_of_difference, value_of


def score_rows(blocks: Blocks, prefix: str = '') -> list[Row]:
  """Rows of the score, of what is given beside it, and of the task's further figures."""
  scores = [block.get('score') for block in blocks]
  rows = _judged_rows('score', scores, prefix)
  if rows:
    kind = kind_of(next(score for score in scores if score))
    untrained = values_of(blocks, 'post_training_score')
    rows += [
      plain_row('post_training_score', 'int8, without training', kind.show, untrained, prefix),
      plain_row(
        'divergence', 'int8, divergence', units.fmt_metric, values_of(blocks, 'divergence'), prefix
      ),
      *_bn_row(blocks, f'{kind.label}, BN re-estimated', kind.show),
    ]
  figures = [{f['name']: f for f in block.get('figures') or ()} for block in blocks]
  for name in dict.fromkeys(name for by_name in figures for name in by_name):
    rows += _judged_rows(f'figures/{name}', [by_name.get(name) for by_name in figures], prefix)
  return rows


def _bn_row(blocks: Blocks, label: str, show: Format) -> list[Row]:
  """The row of re-estimated BatchNorm statistics; none if that changed nothing."""
  values = values_of(blocks, 'score_bn_reestimated')
  plain = [value_of(block.get('score')) for block in blocks]
  changed = any(a is not None and a != b for a, b in zip(values, plain, strict=True))
  return [plain_row('score_bn_reestimated', label, show, values)] if changed else []


def _judged_rows(key: str, scores: Sequence[Mapping | None], prefix: str) -> list[Row]:
  """The row of one score or figure, judged by its direction and noise; none if no block has it."""
  if not any(scores):
    return []
  kind = kind_of(next(score for score in scores if score))
  values = [value_of(score) for score in scores]
  row = plain_row(key, start_of(prefix) + kind.label, kind.show, values, prefix)
  if values[0] is None or values[2] is None:
    return [row]
  delta, better = values[2] - values[0], is_better(scores[0], scores[2])
  known = noise_of_difference(scores[0], scores[2]) is not None
  row = replace(row, change=kind.show_difference(delta), delta=delta, better=better)
  return [replace(row, within_noise=known and better is None and delta != 0)]


def metric_rows(blocks: Blocks, prefix: str = '') -> list[Row]:
  """Rows of the user's metrics; what is better is not known of them."""
  maps = [block.get('metrics') or {} for block in blocks]
  rows = []
  for name in dict.fromkeys(name for metrics in maps for name in metrics):
    values = [metrics.get(name) for metrics in maps]
    row = plain_row(f'metrics/{name}', start_of(prefix) + name, units.fmt_metric, values, prefix)
    if values[0] is not None and values[2] is not None:
      delta = values[2] - values[0]
      row = replace(row, change=f'{delta:+.4g}', delta=delta)
    rows.append(row)
  return rows
