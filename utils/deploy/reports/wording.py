"""The sentences and names of a report: for the terminal and the page alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.chains import first_original
from secateurs.utils.deploy.reports.float_file import INT8, PACKED, PLAIN, QUANT, SPARSE
from secateurs.utils.deploy.reports.rows import DEPLOYED, FLOAT_TO_INT8, Row
from secateurs.utils.deploy.reports.scores import is_better, kind_of, noise_of_difference, value_of

_NAMES = {
  'prune_ratio': 'removed part',
  'channels_ratio': 'input channels ratio',
  'macs_ratio': 'MACs ratio',
  'params_ratio': 'parameters ratio',
  'latency_ratio': 'latency ratio',
  'ram_ratio': 'peak activation memory ratio',
  'sparsity': 'zeros in prunable kernels',
  'sparsity_params': 'zeros in all parameters',
}

_LIMITS = {
  'max_drop': 'drop of the score',
  'max_drop_held_out': 'drop on held-out samples, 95 % confidence',
  'max_drop_alone': 'drop of the score, each layer alone',
  'max_bytes': 'file size',
  'max_latency': 'latency, 1 sample',
  'max_macs': 'MACs',
  'max_ram': 'peak activation memory',
  'time': 'time of search and training',
}
_SHOWN = {
  'max_bytes': units.fmt_bytes,
  'max_latency': units.fmt_ms,
  'max_macs': units.fmt_macs,
  'max_ram': units.fmt_bytes,
  'time': units.fmt_seconds,
}

_SCORES = ('score', 'quant/score', f'{DEPLOYED}score')
_ENDINGS = {
  f'{DEPLOYED}bytes': INT8,
  'tflite_bytes': PLAIN,
  'sparse/bytes': SPARSE,
  'quant/bytes': QUANT,
  'packed/bytes': PACKED,
}


def method_of(report: Mapping) -> str:
  """What was run: the published method and its learner, or the learner alone."""
  method, learner = report.get('method'), report['learner']
  return f'{method} ({learner})' if method and method != learner else learner


def title(report: Mapping) -> str:
  """One line that says what was run, e.g. 'weight-sparse: resnet20 on cifar10, seed 0'."""
  return f'{method_of(report)}: {report["net"]} on {report["dataset"]}, seed {report["seed"]}'


def goals(report: Mapping) -> list[tuple[str, str, str]]:
  """Returns (name, requested, achieved) for everything that was requested."""
  achieved = report.get('achieved') or {}
  score = report['compressed'].get('score')
  return [
    (
      _LIMITS.get(key) or _NAMES.get(key, key),
      _requested(key, value, score),
      _goal(key, achieved.get(key), score),
    )
    for key, value in (report.get('requested') or {}).items()
  ]


def _requested(key: str, value: Any, score: Mapping | None) -> str:
  """A limit, or what was to be as small as possible."""
  limit = key in _LIMITS and isinstance(value, (int, float))
  return f'at most {_goal(key, value, score).removeprefix("+")}' if limit else _goal(key, value)


def _goal(key: str, value: Any, score: Mapping | None = None) -> str:
  if value is None:
    return units.NOTHING
  if key in _SHOWN and not isinstance(value, str):
    return _SHOWN[key](value)
  if not isinstance(value, float):
    return str(value)
  if key in _LIMITS and score is not None:
    return kind_of(score).show_difference(value)
  return f'{100 * value:.4g} %' if key in _NAMES else f'{value:.4g}'


def headline(rows: Sequence[Row]) -> list[Row]:
  """The rows that a verdict is made of, those that have a change: file size, latency, score."""
  by_key = {row.key: row for row in rows}
  # What is deployed.
  start = next((one for one in (DEPLOYED, 'quant/') if f'{one}bytes' in by_key), '')
  sizes = (key for key in by_key if key in ('tflite_bytes', 'sparse/bytes'))
  first = next(sizes, '')
  times = (row for key, row in by_key.items() if key.startswith(f'{start}latency/'))
  chosen = (
    by_key.get(f'{DEPLOYED}bytes')
    or by_key.get('packed/bytes')
    or by_key.get('quant/bytes')
    or by_key.get(first),
    next(times, None),
    by_key.get(f'{start}score'),
  )
  return [row for row in chosen if row is not None and row.delta is not None]


def verdict(rows: Sequence[Row]) -> str:
  """What the compression gave in one line, and what to do with it; empty if nothing was compared.

  For example '0.39x file size (_sparse.tflite), 0.99x latency (within the noise), accuracy -0.31 pt:
  deploy model_sparse.tflite'.
  """
  chosen = headline(rows)
  parts = []
  for row in chosen:
    name = 'latency' if row.key.removeprefix(DEPLOYED).startswith('latency/') else row.label
    name = name.removesuffix(FLOAT_TO_INT8)
    name += f' ({INT8})' if row.key == f'{DEPLOYED}bytes' else ''
    text = f'{name} {row.change}' if row.share is None else f'{row.change} {name}'
    parts.append(text + (' (within the noise)' if row.within_noise else ''))
  return ', '.join(parts) + _advice(chosen)


def _advice(chosen: Sequence[Row]) -> str:
  """What the rows of the headline suggest.

  Nothing where no score was compared, or one that fell or rose by an unknown number of its standard
  errors, and no file where none is smaller or faster.
  """
  score = next((row for row in chosen if row.key in _SCORES), None)
  ending = next((_ENDINGS[row.key] for row in chosen if row.key in _ENDINGS), None)
  if score is None or ending is None:
    return ''
  if score.better is False:
    return ': weigh the loss, train for longer, or remove less'
  if score.better is None and score.delta and not score.within_noise:
    return ''
  gains = any(row.better and row.share is not None for row in chosen if row is not score)
  return f': deploy model{ending}' if gains else ''


def samples_line(report: Mapping) -> str:
  """On how many samples the score is, and its standard error; empty if neither is known."""
  nb_samples, score = report.get('nb_smpls_eval'), report['compressed'].get('score')
  parts = [f'evaluated on {nb_samples:,} samples'] if nb_samples else []
  if score and score.get('noise') is not None:
    kind = kind_of(score)
    parts.append(f'standard error of {kind.label} {kind.show_noise(score["noise"])}')
    before = first_original(report).get('score')
    if before and before.get('hits') and score.get('hits'):
      change = noise_of_difference(before, score)
      parts.append(f'of its change {kind.show_noise(change)}')
  return ', '.join(parts)


def int8_line(report: Mapping) -> str:
  """Which int8 files the columns compare, where only the compressed one was repaired; else empty."""
  steps = report.get('int8_repair') or ()
  kept = dict.fromkeys(step['step'] for step in steps[1:] if step['kept'])
  return f'int8: original plain, compressed repaired ({", ".join(kept)})' if kept else ''


def caveats(report: Mapping, rows: Sequence[Row]) -> list[str]:
  """Sentences about what a reader may conclude wrongly from a report and its rows."""
  found = (_better_than_the_original(rows), _worse_by_training(report), _worse_by_8_bits(report))
  return [sentence for sentence in found if sentence]


def _better_than_the_original(rows: Sequence[Row]) -> str:
  score = next((row for row in rows if row.key == 'score'), None)
  if score is None or not score.better:
    return ''
  return (
    f'The compressed model has a better {score.label} than the original, by more than the noise. '
    'The original was probably still improving when its training ended. For a fair comparison, '
    'train the original for as many further epochs as the compressed model.'
  )


def _worse_by_training(report: Mapping) -> str:
  before = (report.get('pruned') or {}).get('score')
  change = _worse(before, report['compressed'].get('score'))
  if not change:
    return ''
  return (
    f'The training after the cut made {change}: --nb_epochs_ft 0 keeps the network as it was before. '
    'A lower rate, or more training, may do better.'
  )


def _worse_by_8_bits(report: Mapping) -> str:
  int8 = report['compressed'].get('int8') or {}
  after, value = int8.get('score'), int8.get('post_training_score')
  if after is None or value is None:
    return ''
  # Which samples that file had right is not known.
  before = {key: one for key, one in after.items() if key != 'hits'} | {'value': value}
  change = _worse(before, after, ' of the int8 file')
  return (
    change and f'Training in 8 bits made {change}: leave --enbl_qat out, or lower --lrn_rate_qat.'
  )


def _worse(before: Mapping | None, after: Mapping | None, of: str = '') -> str:
  """What got worse by more than the noise, and from where to where; empty if nothing did."""
  old, new = value_of(before), value_of(after)
  if old is None or new is None or is_better(before, after) is not False:
    return ''
  kind = kind_of(after)
  return f'{kind.label}{of} worse, from {kind.show(old)} to {kind.show(new)}'
