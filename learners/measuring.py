"""Measures a model in all that a report shows: accuracy, sizes, counts, latency.

With several processes evaluations are shared; the chief exports and times, and tells the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.configs import RunConfig
from secateurs.learners.helper import Helper
from secateurs.utils.deploy import TFLiteModel, export_model, measure_latency, model_block
from secateurs.utils.deploy.export import Export
from secateurs.utils.graph import count
from secateurs.utils.training import distributed
from secateurs.utils.training.evaluation import Evaluation, evaluate, evaluate_function
from secateurs.utils.training.weights import trainable_kernels

_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class Measured:
  """A model's files and its block of the report, latency not yet in it."""

  export: Export
  block: dict[str, Any]


def measure(
  model: keras.Model,
  helper: Helper,
  run: RunConfig,
  prefix: Path,
  prunable: Mapping[str, tf.Variable] | None = None,
  *,
  sparse: bool = False,
  quantized: keras.Model | None = None,
  post_training_accuracy: float | None = None,
) -> Measured:
  """Evaluates and exports a float32 model.

  Args:
    model: what to measure.
    helper: its data.
    run: whether int8 is wanted, and batch sizes.
    prefix: start of the files' names.
    prunable: kernels over which sparsity is told; default: all of `prunable_kernels`.
    sparse: whether a .tflite file without the zeros is written, too.
    quantized: twin of the model that gives the int8 file, which is written then whatever `run` says.
    post_training_accuracy: of the int8 file that quantising the model itself gave.
  """
  evaluation = evaluate_model(model, helper, run)
  calibration = helper.calibration_images(run.nb_smpls_calib)
  export = distributed.from_chief(
    lambda: export_model(
      helper.deployable(model),
      prefix,
      calibration=calibration,
      int8=run.export_int8,
      sparse=sparse,
      quantized=None if quantized is None else helper.deployable(quantized),
    )
  )
  extra: dict[str, Any] = sparsities(model, prunable)
  int8 = None
  if export.tflite_int8 is not None:
    int8 = evaluate_tflite(export.tflite_int8.path, helper, run)
    extra['int8_accuracy'] = int8.accuracy
    extra['int8_metrics'] = int8.metrics
    extra['int8_post_training_accuracy'] = post_training_accuracy
  block = model_block(
    count=count(model),
    export=export,
    accuracy=evaluation.accuracy,
    accuracy_top5=evaluation.accuracy_top5,
    loss=evaluation.loss,
    metrics=evaluation.metrics,
    **extra,
  )
  return Measured(export, block)


def add_latency(
  blocks: Mapping[str, dict[str, Any]], prefixes: Mapping[str, Path], run: RunConfig
) -> None:
  """Times the .tflite files behind some blocks in turns and puts the figures into the blocks.

  Args:
    blocks: blocks of the report by name.
    prefixes: start of their files' names, by the same names.
    run: frames and threads.
  """
  paths = {}
  for name, prefix in prefixes.items():
    paths[name, 'float'] = prefix.with_name(f'{prefix.name}.tflite')
    for kind in ('int8', 'sparse'):
      if kind in blocks[name]:
        paths[name, kind] = prefix.with_name(f'{prefix.name}_{kind}.tflite')
  timed = distributed.from_chief(
    lambda: measure_latency(paths, nb_frames=run.bench_frames, threads=run.threads)
  )
  for (name, kind), latency in timed.items():
    target = blocks[name] if kind == 'float' else blocks[name][kind]
    target['latency'] = latency


def evaluate_model(model: keras.Model, helper: Helper, run: RunConfig) -> Evaluation:
  """Evaluates over every evaluation sample exactly once."""
  return evaluate(model, _eval_batches(helper, run), helper.criteria)


def evaluate_tflite(path: Path, helper: Helper, run: RunConfig) -> Evaluation:
  """Evaluates a .tflite file itself over every evaluation sample exactly once."""
  with distributed.chiefs_file(path) as copy:
    interpreter = TFLiteModel(copy, nb_threads=max(run.threads))

    def logits(images: np.ndarray) -> np.ndarray:
      found = interpreter.predict(images)
      return np.log(np.maximum(found, _TINY)) if helper.gives_probabilities else found

    return evaluate_function(logits, _eval_batches(helper, run), helper.criteria)


def _eval_batches(helper: Helper, run: RunConfig) -> tf.data.Dataset:
  """This process's part of the evaluation split."""
  size = run.batch_size_eval or helper.recipe.batch_size_eval
  return helper.eval_batches('eval', size, shard=distributed.shard())


def prunable_kernels(model: keras.Model) -> dict[str, tf.Variable]:
  """The kernels of layers by layer name, those behind a layer's first one by their full names."""
  kernels: dict[str, tf.Variable] = {}
  for layer, kernel in trainable_kernels(model):
    kernels[kernel.name.split(':')[0] if layer.name in kernels else layer.name] = kernel
  return kernels


def layer_sparsities(model: keras.Model) -> dict[str, float]:
  """Share of exact zeros over the prunable kernels of each layer that has any, by layer name."""
  values: dict[str, list[np.ndarray]] = {}
  for layer, kernel in trainable_kernels(model):
    values.setdefault(layer.name, []).append(kernel.numpy().ravel())
  return {name: float(np.mean(np.concatenate(parts) == 0)) for name, parts in values.items()}


def sparsities(
  model: keras.Model, prunable: Mapping[str, tf.Variable] | None = None
) -> dict[str, float]:
  """Share of exact zeros over the prunable kernels, and over all parameters."""
  kernels = prunable_kernels(model)
  chosen = kernels if prunable is None else prunable
  size = sum(int(np.prod(kernel.shape)) for kernel in chosen.values())
  params = sum(int(np.prod(weight.shape)) for weight in model.weights)
  return {
    'sparsity': _zeros(chosen) / max(size, 1),
    'sparsity_params': _zeros(kernels) / max(params, 1),
  }


def _zeros(kernels: Mapping[str, tf.Variable]) -> int:
  return sum(int(np.sum(kernel.numpy() == 0)) for kernel in kernels.values())
