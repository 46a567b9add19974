"""One table of all exported files: sizes, scores and milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.results import measuring
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.deploy import TFLiteModel
from secateurs.utils.deploy.files.export import Export
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.files.other_files import FURTHER, onnx_function
from secateurs.utils.deploy.runtime.latency import Timed
from secateurs.utils.training import distributed
from secateurs.utils.training.tasks.evaluation import evaluate_function

_BLOCKS = {'tflite_int8': 'int8', 'tflite_sparse': 'sparse', 'tflite_quant': 'quant'}
_EVALUATED = ('tflite_fp16', 'tflite_dynamic')


def writers(run: RunConfig) -> Mapping[str, Writer]:
  """Writers of the formats that are asked for, beside those that `export_model` has itself."""
  return {kind: write for kind, write in FURTHER.items() if kind in run.formats}


def timed_apart(export: Export) -> dict[str, Timed]:
  """What is to be timed of the files that no block describes, by format."""
  files = export.files
  found: dict[str, Timed] = {kind: files[kind].path for kind in _EVALUATED if kind in files}
  if 'onnx' in files and 'tflite' in files:

    def run_of(threads: int) -> Callable[[], Any]:
      call, sample = onnx_function(files['onnx'].path, threads), _sample(files['tflite'].path)
      return lambda: call(sample)

    found['onnx'] = run_of
  return found


def table(
  settings: Settings,
  export: Export,
  block: Mapping[str, Any],
  timed: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
  """A row for each file of the compressed model.

  Args:
    settings: data and task.
    export: the files.
    block: of the compressed model, with scores and latencies of the files that it describes.
    timed: latencies of the others, which were timed among them.

  Returns:
    Rows with `format`, `file`, `bytes`, `gzip_bytes`, `score` (a value), `ms` with the fewest threads,
    and whether that has settled; None for what was not measured.
  """
  run, rows = settings.run, []
  for kind, file in export.files.items():
    score, latency = _known(kind, block)
    least = min(timed.get(kind, latency), key=lambda one: one['threads'], default={})
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
        'ms': least.get('p50_ms'),
        'settled': least.get('settled'),
      }
    )
  return rows


def _known(kind: str, block: Mapping[str, Any]) -> tuple[float | None, list[Mapping[str, Any]]]:
  """Score and latencies of a file that the block describes."""
  part = block.get(_BLOCKS[kind]) or {} if kind in _BLOCKS else block
  if kind not in (*_BLOCKS, 'keras', 'tflite'):
    return None, []
  score = (part.get('score') or {}).get('value')
  return score, [] if kind == 'keras' else part.get('latency') or []


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
