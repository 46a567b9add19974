"""One table of all exported files: sizes, scores and milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.results import measuring
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.deploy import TFLiteModel, measure_latency
from secateurs.utils.deploy.files.export import Export
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.files.other_files import FURTHER, onnx_function
from secateurs.utils.deploy.runtime.timing import time_interleaved
from secateurs.utils.training import distributed
from secateurs.utils.training.tasks.evaluation import evaluate_function

_BLOCKS = {'tflite_int8': 'int8', 'tflite_sparse': 'sparse', 'tflite_quant': 'quant'}
_EVALUATED = ('tflite_fp16', 'tflite_dynamic')


def writers(run: RunConfig) -> Mapping[str, Writer]:
  """Writers of the formats that are asked for, beside those that `export_model` has itself."""
  return {kind: write for kind, write in FURTHER.items() if kind in run.formats}


def table(settings: Settings, export: Export, block: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A row for each file of the compressed model.

  Args:
    settings: data and task.
    export: the files.
    block: of the compressed model, with scores and latencies of the files that it describes.

  Returns:
    Rows with `format`, `file`, `bytes`, `gzip_bytes`, `score` (a value) and `ms` with the fewest
    threads; None for what was not measured.
  """
  run, rows = settings.run, []
  for kind, file in export.files.items():
    score, ms = _known(kind, block)
    if kind in _EVALUATED:
      score = measuring.evaluate_tflite(file.path, settings.helper, run).score.value
    elif kind == 'onnx':
      score = _onnx_score(settings, file.path)
    rows.append(
      {
        'format': kind,
        'file': file.path.name,
        'bytes': file.bytes,
        'gzip_bytes': file.packed,
        'score': score,
        'ms': ms,
      }
    )
  timed = distributed.from_chief(lambda: _times(export, run))
  return [{**row, 'ms': timed.get(row['format'], row['ms'])} for row in rows]


def _known(kind: str, block: Mapping[str, Any]) -> tuple[float | None, float | None]:
  """Score and milliseconds of a file that the block describes."""
  part = block.get(_BLOCKS[kind]) or {} if kind in _BLOCKS else block
  if kind not in (*_BLOCKS, 'keras', 'tflite'):
    return None, None
  score = (part.get('score') or {}).get('value')
  latency = [] if kind == 'keras' else part.get('latency') or []
  least = min(latency, key=lambda one: one['threads'], default={})
  return score, least.get('p50_ms')


def _times(export: Export, run: RunConfig) -> dict[str, float]:
  """Medians with the fewest threads of the files that no block describes."""
  files, threads = export.files, min(run.threads)
  paths = {kind: files[kind].path for kind in _EVALUATED if kind in files}
  found = {}
  if paths:
    timed = measure_latency(paths, nb_frames=run.bench_frames, threads=[threads])
    found = {kind: entries[0]['p50_ms'] for kind, entries in timed.items()}
  if 'onnx' in files and 'tflite' in files:
    call = onnx_function(files['onnx'].path, threads)
    sample = _sample(files['tflite'].path)
    (one,) = time_interleaved(
      {'onnx': lambda: call(sample)}, nb_frames=run.bench_frames, seconds=0.5
    ).values()
    found['onnx'] = float(np.median(one.times_ns)) / 1e6
  return found


def _onnx_score(settings: Settings, path: Path) -> float:
  helper, run = settings.helper, settings.run
  size = run.batch_size_eval or helper.recipe.batch_size_eval
  with distributed.chiefs_file(path) as copy:
    call = onnx_function(copy, max(run.threads))
    batches = helper.eval_batches('eval', size, shard=distributed.shard())
    found = evaluate_function(
      lambda inputs: helper.task.trained_outputs(call(nested.as_numpy(inputs))),
      batches,
      helper.task,
    )
  return found.score.value


def _sample(path: Path) -> Any:
  """One made-up sample, with an axis of samples, of what a .tflite file takes."""
  made = TFLiteModel(path).made_up(np.random.default_rng(0))
  return nested.mapped(lambda one: np.asarray(one)[None], made)
