"""What can be done with a finished run: evaluate, export again, benchmark."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.files import RunFiles, with_ending
from secateurs.learners.run.results import device_costs, formats, latencies, measuring
from secateurs.learners.run.results.exported import usable_files
from secateurs.learners.run.results.kinds import further_files
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.deploy import Export, export_model, file_size
from secateurs.utils.deploy.devices import vela
from secateurs.utils.deploy.files import verification
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.files.verification import Verification
from secateurs.utils.deploy.int8.repair import Repairer
from secateurs.utils.deploy.latency_table.operator_times import (
  operator_times,
  slowest,
  write_node_times,
)
from secateurs.utils.deploy.runtime.sound_files import require_sound
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path
from secateurs.utils.training import distributed
from secateurs.utils.training.tasks.scores import Evaluation

_VERIFIED = ('tflite', 'tflite_int8', 'tflite_quant')
_NB_VERIFIED = 8
CHECKPOINT = 'checkpoint'


def evaluate(
  settings: Settings, files: RunFiles, model: keras.Model, source: str
) -> dict[str, Evaluation]:
  """Evaluates a model and each .tflite file over every evaluation sample once.

  Args:
    settings: data, task and batch sizes.
    files: where the exported files are.
    model: as it is deployed.
    source: what the model is, such as keras; files are not looked at with CHECKPOINT.

  Raises:
    UserError: a file that the report lists is not there, or one is damaged.
  """
  helper, run = settings.helper, settings.run
  exported = {}
  if source != CHECKPOINT:
    exported = distributed.from_chief(lambda: usable_files(files, model))
  results = {source: measuring.evaluate_model(helper.task.trained(model), helper, run)}
  for kind, path in exported.items():
    results[kind] = measuring.evaluate_tflite(path, helper, run)
  for kind, result in results.items():
    figures = ''.join(f'  {figure}' for figure in result.figures)
    own = ''.join(f'{name} {value:.4g}  ' for name, value in result.metrics.items())
    say(
      f'{kind:<13} {result.score}{figures}  loss {result.loss:.4f}  {own}'
      f'({result.nb_samples} samples)'
    )
  _write(
    files,
    'evaluation.json',
    {k: {**r.block(), 'nb_samples': r.nb_samples} for k, r in results.items()},
  )
  return results


def export(
  settings: Settings,
  files: RunFiles,
  model: keras.Model,
  quantized: keras.Model | None,
  further: Mapping[str, Writer],
  repair: Repairer | None = None,
) -> Export:
  """Writes all formats of a deployable model again, and shows their sizes.

  Args:
    settings: calibration, and whether int8 is wanted.
    files: where the exported files are.
    model: as it is deployed.
    quantized: its twin that gives the int8 file, deployable as well, if there is one.
    further: writers of the learner's own formats.
    repair: repairs the int8 file, if it is not made of `quantized`.
  """
  run = settings.run
  calibration = settings.helper.calibration_images(run.nb_smpls_calib)
  exported = distributed.from_chief(
    lambda: export_model(
      model,
      files.save_path_eval,
      calibration=calibration,
      formats=run.formats,
      int8=run.wants_int8,
      sparse='tflite_sparse' in files.exported(),
      quantized=quantized,
      further={
        **settings.helper.task.further_formats(),
        **further_files(model, settings.helper),
        **formats.writers(run),
        **further,
      },
      agreement=settings.helper.task.agreement,
      repair=repair,
    )
  )
  for sentence in (*exported.left_out.values(), *exported.notes):
    say(f'Warning: {sentence}')
  for kind, file in exported.files.items():
    say(f'{kind:<13} {file.path}  {file.bytes} bytes, {file.gzip_bytes} gzipped')
  return exported


def verify(settings: Settings, files: RunFiles, model: keras.Model) -> Verification:
  """Compares the .tflite files with a deployable model on calibration images, and prints each layer.

  Raises:
    UserError: nothing was exported yet, or a file is damaged.
  """
  images = nested.rows(settings.helper.calibration_images(_NB_VERIFIED), slice(_NB_VERIFIED))

  def compare() -> Verification:
    paths = {k: p for k, p in files.exported().items() if k in _VERIFIED}
    if not paths:
      raise files.nothing_exported()
    require_sound(paths.values(), every_kernel=True)
    return verification.verify(model, paths, images)

  found = distributed.from_chief(compare)
  for kind, layers in found.layers.items():
    say(f'{kind}: largest difference from Keras by layer, over {nested.size(images)} images')
    for one in layers:
      steps = '' if one.steps is None else f'  {one.steps:.1f} steps'
      say(f'  {one.layer:<28} {one.largest:.3g}  {100 * one.share:.3g} % of the range{steps}')
  if found.integers is not None:
    say("tflite_int8: largest difference of TensorFlow Lite's kernels from whole numbers in NumPy")
    for name, steps in found.integers.items():
      say(f'  {name.split(";")[0][:60]:<60} {steps} steps')
  if found.integers_refusal is not None:
    say(f'tflite_int8 was not run in whole numbers: {found.integers_refusal}')
  _write(files, 'verification.json', found.block())
  return found


def benchmark(settings: Settings, files: RunFiles) -> dict[str, list[dict[str, float]]]:
  """Times the .tflite files, interleaved, the original's with them; of several processes one does.

  Raises:
    UserError: nothing was exported yet, or a file is damaged.
  """
  return distributed.from_chief(lambda: _benchmark(settings, files))


def _benchmark(settings: Settings, files: RunFiles) -> dict[str, list[dict[str, float]]]:
  run = settings.run
  paths = {k: p for k, p in files.exported().items() if k.startswith('tflite')}
  if not paths:
    raise files.nothing_exported()
  for kind, ending in (('original', '.tflite'), ('original_int8', '_int8.tflite')):
    path = with_ending(files.original_prefix, ending)
    if path.is_file() and path not in paths.values():
      paths[kind] = path
  timed, streamed = latencies.timed_files(paths, run)
  where = f' on {run.bench_cores} core(s)' if run.bench_cores else ''
  for kind, entries in timed.items():
    size = file_size(paths[kind])
    say(f'{kind:<14} {size.bytes} bytes, {size.gzip_bytes} gzipped')
    for entry in entries:
      say(
        f'  latency, {entry["threads"]} thread(s){where}: median {entry["p50_ms"]:.3f} ms, p90 '
        f'{entry["p90_ms"]:.3f} ms, {entry["fps"]:.0f} frames/s, spread of the median '
        f'{100 * (entry["spread"] or 0):.1f} %{"" if entry["settled"] else " (not settled)"}'
      )
    if kind in streamed:
      one = streamed[kind]
      say(
        f'  throughput, {one["streams"]} stream(s){where}: {one["fps"]:.0f} frames/s of all together, '
        f'spread {100 * one["spread"]:.1f} %'
      )
  further = {**({'throughput': streamed} if streamed else {}), **_npu(paths, run.bench_device)}
  if 'tflite' in paths:
    further['operators'] = _operators(paths['tflite'], files.log_dir, min(run.threads))
  _write(files, 'benchmark.json', {**timed, **further})
  return timed


def _operators(path: Path, folder: Path, nb_threads: int) -> list[dict[str, object]]:
  """What the operators of a file take alone, on the screen and for Model Explorer."""
  times = operator_times(path.read_bytes(), nb_threads)
  say(f'{path.name}: operators alone, {nb_threads} thread(s), and parts of the sum of all')
  for line in slowest(times):
    say(f'  {line}')
  folder.mkdir(parents=True, exist_ok=True)
  say(f'All of them, for Model Explorer: {write_node_times(times, folder)}')
  return [dataclasses.asdict(one) for one in times]


def _npu(paths: Mapping[str, Path], device: str | None) -> dict[str, dict[str, object]]:
  """What an NPU takes for the full-integer files, by `npu_` and their kind.

  Raises:
    UserError: Vela is not installed, does not know the device, or there is no such file.
  """
  if device is None:
    return {}
  vela.require_device(device)
  integers = {kind: path for kind, path in paths.items() if kind.endswith('int8')}
  if not integers:
    raise UserError(
      f'--bench_device {device} takes full-integer files, and there is none: export with '
      '--export_int8 first.'
    )
  found = {}
  for kind, path in integers.items():
    cost = vela.npu_cost(path, device)
    say(f'{kind:<14} {device}, by {vela.version()}: {cost}')
    if cost.cpu_operators:
      say(f'  {device_costs.cpu_note(cost)}')
    found[f'npu_{kind}'] = cost.block()
  return found


def _write(files: RunFiles, name: str, content: object) -> None:
  if not distributed.is_chief():
    return
  with atomic_path(files.log_dir / name) as partial:
    partial.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
