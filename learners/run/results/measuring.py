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
from secateurs.learners.run.console import say, with_eta
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.results import int8_layers
from secateurs.learners.run.results.device_costs import add_costs
from secateurs.learners.run.results.kinds import further_files
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.deploy import TFLiteModel, export_model, model_block
from secateurs.utils.deploy.files import kept
from secateurs.utils.deploy.files.export import Export
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.files.exportable import NB_PARITY_IMAGES
from secateurs.utils.deploy.files.format_names import ALWAYS
from secateurs.utils.deploy.files.parity import Agreement
from secateurs.utils.deploy.int8.repair import Repairer
from secateurs.utils.deploy.runtime.operators import operators_of
from secateurs.utils.graph import count
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.models.weights import kernels_by_name, layer_kernels
from secateurs.utils.training.tasks.evaluation import evaluate, evaluate_function
from secateurs.utils.training.tasks.scores import Evaluation

_FILE_BATCH = 64


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
  repair: Repairer | None = None,
  reuse: bool = False,
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
    repair: repairs the int8 file, if it is not made of `quantized`.
    reuse: whether files of an earlier run are taken where they would be the same (`kept`).
  """
  helper, run = settings.helper, settings.run
  evaluation = evaluate_model(model, helper, run)
  # Float files take some of them for the comparison only.
  integers = run.wants_int8 or quantized is not None or further
  nb_images = run.nb_smpls_calib if integers else NB_PARITY_IMAGES
  calibration = helper.calibration_images(nb_images)
  deployable, agreement = helper.task.deployable(model), helper.task.agreement
  if reuse:
    export = distributed.from_chief(
      lambda: _export_once(deployable, prefix, calibration, run.wants_int8, agreement)
    )
  else:
    export = distributed.from_chief(
      lambda: export_model(
        deployable,
        prefix,
        calibration=calibration,
        formats=run.formats,
        int8=run.wants_int8,
        sparse=sparse,
        further={
          **helper.task.further_formats(),
          **further_files(deployable, helper),
          **(further or {}),
        },
        quantized=None if quantized is None else helper.task.deployable(quantized),
        agreement=agreement,
        repair=repair,
      )
    )
  for sentence in (*export.left_out.values(), *export.notes):
    say(f'Warning: {sentence}')
  int8: dict[str, Any] | None = None
  if export.tflite_int8 is not None:
    int8 = evaluate_tflite(export.tflite_int8.path, helper, run).block()
    int8['divergence'] = int8_layers.file_divergence(settings, export)
    if post_training_score is not None:
      int8['post_training_score'] = post_training_score
  quant: dict[str, Any] | None = None
  if 'tflite_quant' in export.further:
    quant = evaluate_tflite(export.further['tflite_quant'].path, helper, run).block()
  block = model_block(
    count=count(model),
    export=export,
    operators=None if export.tflite is None else operators_of(export.tflite.path),
    evaluation=evaluation.block(),
    int8=int8,
    quant=quant,
    **sparsities(model, prunable),
  )
  return Measured(export, distributed.from_chief(lambda: add_costs(block, export, run)))


def _export_once(
  model: keras.Model, prefix: Path, calibration: Any, int8: bool, agreement: Agreement
) -> Export:
  """Exports a model, or takes the files of a run that exported the same one."""
  key = kept.fingerprint(model, int8, calibration)
  export = kept.find(key, prefix)
  if export is None:
    export = export_model(
      model, prefix, calibration=calibration, formats=ALWAYS, int8=int8, agreement=agreement
    )
    kept.keep(key, export)
  else:
    say(f'{prefix}.*: an earlier run exported the same network, its files were taken.')
  return export


def evaluate_model(model: keras.Model, helper: Helper, run: RunConfig) -> Evaluation:
  """Evaluates over every evaluation sample exactly once."""
  most = inference_batch(flatten_model(model), _batch_size(helper, run))
  size = run.batch_size_eval or most
  batches = helper.eval_batches('eval', size, shard=distributed.shard())
  return evaluate(model, batches, helper.task)


def evaluate_tflite(path: Path, helper: Helper, run: RunConfig) -> Evaluation:
  """Evaluates a .tflite file itself over every evaluation sample exactly once."""
  with distributed.chiefs_file(path) as copy:
    interpreter = TFLiteModel(copy, nb_threads=max(run.threads))
    size = min(_batch_size(helper, run), _FILE_BATCH)  # It runs 16 images at a time in any case.
    batches = helper.eval_batches('eval', size, shard=distributed.shard())
    return evaluate_function(
      lambda inputs: helper.task.trained_outputs(interpreter.predict(nested.as_numpy(inputs))),
      with_eta(batches, -(-helper.nb_samples('eval') // size), f'evaluate {path.name}'),
      helper.task,
    )


def _batch_size(helper: Helper, run: RunConfig) -> int:
  return run.batch_size_eval or helper.recipe.batch_size_eval


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
