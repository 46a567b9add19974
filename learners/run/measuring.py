"""Measures a model in all that a report shows: score, sizes, counts, latency.

With several processes evaluations are shared; the chief exports and times, and sends the results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.files import with_ending
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.deploy import TFLiteModel, export_model, measure_latency, model_block
from secateurs.utils.deploy.export import Export
from secateurs.utils.deploy.export_files import Writer
from secateurs.utils.graph import count
from secateurs.utils.training import distributed
from secateurs.utils.training.models.weights import kernels_by_name, layer_kernels
from secateurs.utils.training.tasks.evaluation import evaluate, evaluate_function
from secateurs.utils.training.tasks.scores import Evaluation


@dataclasses.dataclass(frozen=True)
class Measured:
  """A model's files and its block of the report, latency not yet in it."""

  export: Export
  block: dict[str, Any]


def measure(
  model: keras.Model,
  settings: Settings,
  prefix: Path,
  prunable: Mapping[str, tf.Variable] | None = None,
  *,
  sparse: bool = False,
  further: Mapping[str, Writer] | None = None,
  quantized: keras.Model | None = None,
  post_training_score: float | None = None,
) -> Measured:
  """Evaluates and exports a float32 model.

  Args:
    model: what to measure.
    settings: its data and task, whether int8 is wanted, batch sizes.
    prefix: start of the files' names.
    prunable: kernels over which sparsity is reported; default: all of `kernels_by_name`.
    sparse: whether a .tflite file without the zeros is written, too.
    further: writers of the learner's own formats, by format.
    quantized: twin of the model that gives the int8 file, which is written then in any case.
    post_training_score: score of the int8 file that quantising the model itself gave.
  """
  helper, run = settings.helper, settings.run
  evaluation = evaluate_model(model, helper, run)
  calibration = helper.calibration_images(run.nb_smpls_calib)
  export = distributed.from_chief(
    lambda: export_model(
      helper.task.deployable(model),
      prefix,
      calibration=calibration,
      int8=run.export_int8,
      sparse=sparse,
      further=further,
      quantized=None if quantized is None else helper.task.deployable(quantized),
      agreement=helper.task.agreement,
    )
  )
  int8: dict[str, Any] | None = None
  if export.tflite_int8 is not None:
    int8 = evaluate_tflite(export.tflite_int8.path, helper, run).block()
    if post_training_score is not None:
      int8['post_training_score'] = post_training_score
  quant: dict[str, Any] | None = None
  if 'tflite_quant' in export.further:
    quant = evaluate_tflite(export.further['tflite_quant'].path, helper, run).block()
  block = model_block(
    count=count(model),
    export=export,
    evaluation=evaluation.block(),
    int8=int8,
    quant=quant,
    **sparsities(model, prunable),
  )
  return Measured(export, block)


def add_latency(
  blocks: Mapping[str, dict[str, Any]], prefixes: Mapping[str, Path], run: RunConfig
) -> None:
  """Times the .tflite files of some blocks, interleaved, and puts the figures into the blocks.

  Args:
    blocks: blocks of the report by name.
    prefixes: start of their files' names, by the same names.
    run: frames and threads.
  """
  paths = {}
  for name, prefix in prefixes.items():
    paths[name, 'float'] = with_ending(prefix, '.tflite')
    for kind in ('int8', 'sparse', 'quant'):
      if kind in blocks[name]:
        paths[name, kind] = with_ending(prefix, f'_{kind}.tflite')
  timed = distributed.from_chief(
    lambda: measure_latency(paths, nb_frames=run.bench_frames, threads=run.threads)
  )
  for (name, kind), latency in timed.items():
    target = blocks[name] if kind == 'float' else blocks[name][kind]
    target['latency'] = latency


def evaluate_model(model: keras.Model, helper: Helper, run: RunConfig) -> Evaluation:
  """Evaluates over every evaluation sample exactly once."""
  return evaluate(model, _eval_batches(helper, run), helper.task)


def evaluate_tflite(path: Path, helper: Helper, run: RunConfig) -> Evaluation:
  """Evaluates a .tflite file itself over every evaluation sample exactly once."""
  with distributed.chiefs_file(path) as copy:
    interpreter = TFLiteModel(copy, nb_threads=max(run.threads))
    return evaluate_function(
      lambda inputs: helper.task.trained_outputs(interpreter.predict(nested.as_numpy(inputs))),
      _eval_batches(helper, run),
      helper.task,
    )


def _eval_batches(helper: Helper, run: RunConfig) -> tf.data.Dataset:
  """This process's part of the evaluation split."""
  size = run.batch_size_eval or helper.recipe.batch_size_eval
  return helper.eval_batches('eval', size, shard=distributed.shard())


def layer_sparsities(model: keras.Model) -> dict[str, float]:
  """Fraction of exact zeros over the prunable kernels of each layer that has any, by layer name."""
  values: dict[str, list[np.ndarray]] = {}
  for layer, kernel in layer_kernels(model):
    values.setdefault(layer.name, []).append(kernel.numpy().ravel())
  return {name: float(np.mean(np.concatenate(parts) == 0)) for name, parts in values.items()}


def sparsities(
  model: keras.Model, prunable: Mapping[str, tf.Variable] | None = None
) -> dict[str, float]:
  """Fraction of exact zeros over the prunable kernels, and over all parameters."""
  kernels = kernels_by_name(model)
  chosen = kernels if prunable is None else prunable
  size = sum(int(np.prod(kernel.shape)) for kernel in chosen.values())
  params = sum(int(np.prod(weight.shape)) for weight in model.weights)
  return {
    'sparsity': _zeros(chosen) / max(size, 1),
    'sparsity_params': _zeros(kernels) / max(params, 1),
  }


def _zeros(kernels: Mapping[str, tf.Variable]) -> int:
  return sum(int(np.sum(kernel.numpy() == 0)) for kernel in kernels.values())
