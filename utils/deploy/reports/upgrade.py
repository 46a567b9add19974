"""Converts reports of schema 1, which knew classification only, to schema 2."""

import math
from collections.abc import Mapping
from typing import Any

from secateurs.utils.deploy.reports.schema import SCHEMA

_EVALUATION_SAMPLES = {'cifar10': 10_000, 'digits': 360, 'ilsvrc12': 50_000}
_RENAMED = {
  'accuracy_bn_reestimated': 'score_bn_reestimated',
  'post_training_accuracy': 'post_training_score',
}
_CHANGES = {
  'accuracy': 'score',
  'accuracy_top5': 'figures/accuracy_top5',
  'post_training_accuracy': 'post_training_score',
}
_FIGURES = {'accuracy_top5': 'top-5 accuracy'}


def upgrade_report(report: Mapping) -> dict[str, Any]:
  """Returns a report as schema 2; one that is schema 2 already stays as it is.

  The noise of the scores is computed from the number of evaluation samples: that of the flag
  `nb_smpls_eval`, else that of the known data sets, else it is null.

  Args:
    report: the content of a report.json of schema 1 or 2. Its form is not checked here.

  Raises:
    ValueError: the report has another schema, or none.
  """
  version = report.get('schema') if isinstance(report, Mapping) else None
  if version == SCHEMA:
    return dict(report)
  if version != 1 or isinstance(version, bool):
    raise ValueError(
      f'report: schema must be 1 or {SCHEMA}, got {version!r}; a later version of the program may '
      'have written it: update this one.'
    )
  nb_samples = _nb_samples(report)
  upgraded = _upgraded(report, nb_samples)
  if isinstance(report.get('links'), list):
    upgraded['links'] = [_upgraded(link, nb_samples) for link in report['links']]
  return {
    **upgraded,
    'schema': SCHEMA,
    'method': None,
    'task': 'classification',
    'nb_smpls_eval': nb_samples,
  }


def _nb_samples(report: Mapping) -> int | None:
  flags = report.get('flags')
  wanted = flags.get('nb_smpls_eval') if isinstance(flags, Mapping) else None
  return wanted or _EVALUATION_SAMPLES.get(report.get('dataset'))


def _upgraded(part: Any, nb_samples: int | None) -> Any:
  """A report or a link with its blocks and changes renamed; what is no mapping is left to the check."""
  if not isinstance(part, Mapping):
    return part
  part = dict(part)
  for name in ('original', 'pruned', 'compressed'):
    if isinstance(part.get(name), Mapping):
      part[name] = _block(part[name], nb_samples)
  if isinstance(part.get('changes'), Mapping):
    part['changes'] = {_change(key): value for key, value in part['changes'].items()}
  return part


def _block(block: Mapping, nb_samples: int | None) -> dict[str, Any]:
  upgraded = {_RENAMED.get(key, key): value for key, value in block.items()}
  if block.get('accuracy') is not None:
    upgraded['score'] = _score('accuracy', block['accuracy'], nb_samples)
  figures = [
    {**_score(name, block[name], nb_samples), 'label': label}
    for name, label in _FIGURES.items()
    if block.get(name) is not None
  ]
  if figures:
    upgraded['figures'] = figures
  if isinstance(block.get('int8'), Mapping):
    upgraded['int8'] = _block(block['int8'], nb_samples)
  return upgraded


def _score(name: str, value: Any, nb_samples: int | None) -> dict[str, Any]:
  known = nb_samples and isinstance(value, (int, float)) and 0 <= value <= 1
  return {
    'name': name,
    'value': value,
    'higher_is_better': True,
    'unit': 'percent',
    'noise': math.sqrt(value * (1 - value) / nb_samples) if known else None,
  }


def _change(key: str) -> str:
  start, slash, name = key.rpartition('/')
  return f'{start}{slash}{_CHANGES.get(name, name)}' if start in ('', 'int8') else key
