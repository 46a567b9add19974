"""Puts a finished run together: report.json, report.html, the table on the terminal."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secateurs.learners.run.console import say
from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.phase_times import OTHER
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results import shown
from secateurs.learners.run.settings import FLOAT32_NOTE, Settings
from secateurs.learners.run.state import PhaseTime, RunState
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
from secateurs.utils.deploy.pages.explorer import write_node_data
from secateurs.utils.deploy.runtime.operators import partition_note
from secateurs.utils.graph import ModelCount
from secateurs.utils.training import distributed
from secateurs.utils.training.tasks.scores import Evaluation, Score


@dataclasses.dataclass(frozen=True)
class Findings:
  """What a learner adds to the report of a run.

  Attributes:
    pruned: block of the model before its final fine-tuning, where there is such a moment.
    requested: what the flags asked for, to be shown beside what was achieved.
    reached: what of this was achieved, where the models' sizes and zeros do not show it.
    notes: sentences that the reader must not miss.
    parity: differences between models that the learner has measured itself.
    extra: figures of the algorithm.
  """

  pruned: dict[str, Any] | None = None
  requested: dict[str, Any] = dataclasses.field(default_factory=dict)
  reached: dict[str, float] = dataclasses.field(default_factory=dict)
  notes: list[str] = dataclasses.field(default_factory=list)
  parity: dict[str, float] = dataclasses.field(default_factory=dict)
  extra: dict[str, Any] = dataclasses.field(default_factory=dict)


def build_report(
  settings: Settings,
  findings: Findings,
  *,
  original: dict[str, Any],
  compressed: dict[str, Any],
  counts: tuple[ModelCount, ModelCount],
  layer_sparsities: Mapping[str, float],
  parity: Mapping[str, float],
) -> dict[str, Any]:
  """The content of report.json, except for the phases' times.

  Args:
    settings: those of the run.
    findings: what the learner adds.
    original: block of the model before.
    compressed: block of the model after all phases.
    counts: of the model before and after.
    layer_sparsities: fraction of zeros by layer.
    parity: differences between formats.
  """
  helper = settings.helper
  return {
    'schema': SCHEMA,
    'learner': settings.learner,
    'method': settings.method,
    'task': helper.task.name,
    'net': helper.net,
    'dataset': helper.dataset.name,
    'nb_smpls_eval': helper.nb_samples('eval'),
    'seed': settings.run.seed,
    'nb_workers': distributed.size(),
    'flags': settings.flags(),
    'versions': versions(),
    'original': original,
    'pruned': findings.pruned,
    'compressed': compressed,
    'requested': findings.requested,
    'achieved': achieved(original, compressed, **findings.reached),
    'layers': layer_rows(*counts, layer_sparsities),
    'parity': {**parity, **findings.parity},
    'notes': [
      *_file_notes(original, compressed),
      *_result_notes(settings, original, compressed),
      *findings.notes,
      *helper.notes(),
      *_precision_notes(settings),
    ],
    'extra': findings.extra,
  }


def _file_notes(original: Mapping[str, Any], compressed: Mapping[str, Any]) -> list[str]:
  """What is to be known of the files: those that could not be made, what they hold, how they run."""
  partitions = partition_note(original, compressed)
  return [
    *compressed.get('left_out', {}).values(),
    *compressed.get('file_notes', ()),
    *([] if partitions is None else [partitions]),
  ]


def _result_notes(
  settings: Settings, original: Mapping[str, Any], compressed: Mapping[str, Any]
) -> list[str]:
  """A sentence where nothing is left of what the original could do."""

  def guesses(block: Mapping[str, Any]) -> bool:
    score, number = Score(**block['score']), settings.helper.nb_samples('eval')
    return settings.helper.task.guess_note(Evaluation(score, block['loss'], number)) is not None

  if original is compressed or guesses(original) or not guesses(compressed):
    return []
  return [
    'The compressed model is no better than a guess, so that any smaller network would do: remove '
    'less, or train for longer.'
  ]


def _precision_notes(settings: Settings) -> list[str]:
  return [FLOAT32_NOTE] if settings.run.enbl_bf16 and not settings.bf16 else []


def publish(
  settings: Settings, files: RunFiles, state: RunState, phases: Sequence[Phase]
) -> dict[str, Any]:
  """Adds the times, writes report.json and report.html, and shows the table.

  Args:
    settings: those of the run.
    files: where it keeps its files.
    state: of a finished run.
    phases: those of the learner; trainings inside them are not added up.
  """

  def write() -> dict[str, Any]:
    report = state.report | times(state.times, phases)
    report['files'] = {
      kind: Path(os.path.relpath(path, files.log_dir)).as_posix()
      for kind, path in {**files.exported(), 'plan': files.plan}.items()
    }
    earlier = settings.helper.history()
    if earlier:
      report['links'] = [*earlier, link_of(report)]
    written = write_report(report, files.log_dir, shown.pictures(settings, files))
    shutil.copyfile(written['json'], history_path(files.save_path_eval))
    if 'tflite' in files.exported():
      write_node_data(report, files.exported()['tflite'], files.log_dir)
    say(f'\n{format_table(report)}\n')
    for kind, path in {**files.exported(), 'report': written['html'], 'plan': files.plan}.items():
      say(f'{kind:<13} {path}')
    return report

  return distributed.from_chief(write)


def times(entries: Mapping[str, PhaseTime], phases: Sequence[Phase]) -> dict[str, Any]:
  """The entries of a report about a run's times."""
  titles = {phase.name: phase.describe() for phase in phases} | {OTHER: 'load libraries and data'}
  counted = set(titles)
  speeds = [entry.images_per_sec for entry in entries.values() if entry.images_per_sec]
  return {
    'phases': [
      {
        'name': name,
        'title': titles.get(name, ''),
        'iters': entries[name].iters,
        'seconds': entries[name].seconds,
        'peak_mb': entries[name].peak_mb,
        'images_trained': entries[name].images_trained,
        'images_scored': entries[name].images_scored,
      }
      for name in sorted(entries, key=lambda name: name == OTHER)  # Which comes last.
    ],
    'images_per_sec': max(speeds, default=None),
    'seconds_total': sum(entry.seconds for name, entry in entries.items() if name in counted),
  }
