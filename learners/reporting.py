"""Puts a finished run together: report.json, report.html, the table on the terminal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateurs.learners.identity import flags
from secateurs.utils.deploy import (
  SCHEMA,
  achieved,
  format_table,
  history_path,
  layer_rows,
  link_of,
  versions,
  write_report,
)
from secateurs.utils.graph import ModelCount
from secateurs.utils.training import distributed

if TYPE_CHECKING:
  from secateurs.learners.abstract_learner import Learner

_ENDINGS = {
  'keras': '.keras',
  'pb': '.pb',
  'tflite': '.tflite',
  'tflite_int8': '_int8.tflite',
  'tflite_sparse': '_sparse.tflite',
}


def build_report(
  learner: Learner,
  *,
  original: dict[str, Any],
  compressed: dict[str, Any],
  counts: tuple[ModelCount, ModelCount],
  layer_sparsities: dict[str, float],
  parity: dict[str, float],
  pruned: dict[str, Any] | None = None,
  requested: dict[str, Any] | None = None,
  reached: dict[str, float] | None = None,
  notes: list[str] | None = None,
  extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """The content of report.json, but for the phases' times.

  Args:
    learner: whose run it is.
    original: block of the model before.
    compressed: block of the model behind all phases.
    counts: of the model before and behind.
    layer_sparsities: share of zeros by layer.
    parity: differences between formats.
    pruned: block of the model before its final fine-tuning, where there is such a moment.
    requested: what the flags asked for.
    reached: what of it the blocks do not tell.
    notes: sentences that the reader must not miss.
    extra: figures of the algorithm's own.
  """
  return {
    'schema': SCHEMA,
    'learner': learner.name,
    'net': learner.helper.net,
    'dataset': learner.helper.dataset.name,
    'seed': learner.run_config.seed,
    'nb_workers': distributed.size(),
    'flags': flags(learner),
    'versions': versions(),
    'original': original,
    'pruned': pruned,
    'compressed': compressed,
    'requested': requested or {},
    'achieved': achieved(original, compressed, **(reached or {})),
    'layers': layer_rows(*counts, layer_sparsities),
    'parity': parity,
    'notes': [*(notes or []), *learner.helper.notes()],
    'extra': extra or {},
  }


def publish(learner: Learner) -> dict[str, Any]:
  """Adds the times, writes report.json and report.html, and shows the table."""
  return distributed.from_chief(lambda: _publish(learner))


def times(learner: Learner) -> dict[str, Any]:
  """What a report tells of a run's times: those of trainings inside phases are not added up."""
  phases = learner.state['phases']
  speeds = [p['images_per_sec'] for p in phases.values() if p.get('images_per_sec')]
  names = {phase.name for phase in learner.phases()}
  return {
    'phases': [
      {'name': n, 'iters': p['iters'], 'seconds': p['seconds']} for n, p in phases.items()
    ],
    'images_per_sec': max(speeds, default=None),
    'seconds_total': sum(p['seconds'] for n, p in phases.items() if n in names),
  }


def _publish(learner: Learner) -> dict[str, Any]:
  report = learner.state['report'] | times(learner)
  earlier = learner.helper.history()
  if earlier:
    report['links'] = [*earlier, link_of(report)]
  written = write_report(report, learner.log_dir)
  shutil.copyfile(written['json'], history_path(learner.save_path_eval))
  learner.say(f'\n{format_table(report)}\n')
  for kind, path in exported_files(learner).items():
    learner.say(f'{kind:<13} {path}')
  learner.say(f'{"report":<13} {written["html"]}')
  return report


def exported_files(learner: Learner) -> dict[str, Path]:
  """The exported files that there are, by format."""
  prefix = learner.save_path_eval
  paths = {kind: prefix.with_name(prefix.name + ending) for kind, ending in _ENDINGS.items()}
  return {kind: path for kind, path in paths.items() if path.is_file()}
