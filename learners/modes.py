"""What can be done with a finished run: evaluate, export again, benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import tf_keras as keras

from secateurs.learners import measuring
from secateurs.learners.reporting import exported_files
from secateurs.utils.deploy import export_model, file_size, measure_latency
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path
from secateurs.utils.graph.slicing.classifier import as_classifier
from secateurs.utils.training import distributed
from secateurs.utils.training.evaluation import Evaluation
from secateurs.utils.training.weights import load_model

if TYPE_CHECKING:
  from secateurs.learners.abstract_learner import Learner


def evaluate(learner: Learner) -> dict[str, Evaluation]:
  """Evaluates the .keras model and each .tflite file over every evaluation sample once."""
  helper, run = learner.helper, learner.run_config
  model, source = _model(learner)
  if helper.gives_probabilities:
    model = as_classifier(model)[0]
  results = {source: measuring.evaluate_model(model, helper, run)}
  files = distributed.from_chief(lambda: exported_files(learner))
  for kind in ('tflite', 'tflite_int8', 'tflite_sparse'):
    if kind in files:
      results[kind] = measuring.evaluate_tflite(files[kind], helper, run)
  for kind, result in results.items():
    top5 = '' if result.accuracy_top5 is None else f'  top-5 {100 * result.accuracy_top5:.2f} %'
    own = ''.join(f'{name} {value:.4g}  ' for name, value in result.metrics.items())
    learner.say(
      f'{kind:<13} accuracy {100 * result.accuracy:.2f} %{top5}  loss {result.loss:.4f}  {own}'
      f'({result.nb_samples} samples)'
    )
  _write(learner, 'evaluation.json', {kind: vars(result) for kind, result in results.items()})
  return results


def export(learner: Learner) -> dict[str, Path]:
  """Writes all formats again from the .keras model, and shows their sizes."""
  run = learner.run_config
  model, _ = _model(learner)
  quantized = None
  if learner.quant_config.enbl_qat:
    learner.resume()
    quantized = learner.quantized and learner.helper.deployable(learner.quantized)
  calibration = learner.helper.calibration_images(run.nb_smpls_calib)
  exported = distributed.from_chief(
    lambda: export_model(
      model,
      learner.save_path_eval,
      calibration=calibration,
      int8=run.export_int8,
      sparse='tflite_sparse' in exported_files(learner),
      quantized=quantized,
    )
  )
  for kind, file in exported.files.items():
    learner.say(f'{kind:<13} {file.path}  {file.bytes} bytes, {file.gzip_bytes} gzipped')
  return {kind: file.path for kind, file in exported.files.items()}


def benchmark(learner: Learner) -> dict[str, list[dict[str, float]]]:
  """Times the .tflite files in turns, the original's with them; of several processes one does."""
  return distributed.from_chief(lambda: _benchmark(learner))


def _benchmark(learner: Learner) -> dict[str, list[dict[str, float]]]:
  run = learner.run_config
  files = {k: p for k, p in exported_files(learner).items() if k.startswith('tflite')}
  if not files:
    raise _nothing_there(learner)
  original = learner.original_prefix
  for kind, ending in (('original', '.tflite'), ('original_int8', '_int8.tflite')):
    path = original.with_name(original.name + ending)
    if path.is_file() and path not in files.values():
      files[kind] = path
  timed = measure_latency(files, nb_frames=run.bench_frames, threads=run.threads)
  for kind, entries in timed.items():
    size = file_size(files[kind])
    learner.say(f'{kind:<14} {size.bytes} bytes, {size.gzip_bytes} gzipped')
    for entry in entries:
      learner.say(
        f'  {entry["threads"]} thread(s): median {entry["p50_ms"]:.3f} ms, p90 '
        f'{entry["p90_ms"]:.3f} ms, {entry["fps"]:.0f} frames/s'
      )
  _write(learner, 'benchmark.json', timed)
  return timed


def _model(learner: Learner) -> tuple[keras.Model, str]:
  """The model to work on and its kind: the exported one, else given weights as they are."""
  path = distributed.from_chief(lambda: exported_files(learner).get('keras'))
  if path is not None:
    return load_model(path), 'keras'
  given = learner.given_model()
  if given is None:
    raise _nothing_there(learner)
  return learner.helper.deployable(given), 'weights'


def _nothing_there(learner: Learner) -> UserError:
  return UserError(
    f'{learner.save_path_eval}.keras does not exist, so there is nothing to work on: run the same '
    'command with --exec_mode train first.'
  )


def _write(learner: Learner, name: str, content: object) -> None:
  if not distributed.is_chief():
    return
  with atomic_path(learner.log_dir / name) as partial:
    partial.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
