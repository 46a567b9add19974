"""Learners that end in a measured, exported model: what follows their training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run import modes
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import MEASURE, Phase, Result
from secateurs.learners.run.preflight import checks, estimate, identity, lock
from secateurs.learners.run.preflight.estimate import Need
from secateurs.learners.run.quantizing import QuantizingLearner
from secateurs.learners.run.results import (
  device_costs,
  formats,
  int8_layers,
  int8_repair,
  latencies,
  measuring,
  outdated,
  plans,
  reporting,
)
from secateurs.learners.run.results.kinds import in_kind
from secateurs.learners.run.results.plans import CutPlan
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training import quantized
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.files.verification import Verification
from secateurs.utils.graph import count
from secateurs.utils.graph.counts.memory import all_bytes, map_bytes
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.models.checkpoints import CheckpointStore
from secateurs.utils.training.models.weights import kernels_by_name, load_model
from secateurs.utils.training.tasks.scores import Evaluation


class MeasuredLearner(QuantizingLearner):
  """A learner whose model is evaluated, exported, timed and reported.

  A subclass's `phases` end in `quantization_phases()` and `measure_phase()`.
  """

  leaves_zeros: ClassVar[bool] = False  # Whether a file without the zeros is worth writing.

  # What a subclass may give.

  def prunable(self, model: keras.Model) -> Mapping[str, tf.Variable]:
    """The kernels over which the report states sparsity, by name."""
    return kernels_by_name(model)

  def findings(self) -> Findings:
    """What the learner adds to the report."""
    return Findings()

  def cut_plan(self) -> CutPlan:
    """What was cut, for plan.json."""
    return plans.empty(self.settings)

  def further_formats(self) -> Mapping[str, Writer]:
    """Writers of formats that this learner alone exports, see `export_files.ENDINGS`."""
    return {}

  def given_model(self) -> keras.Model | None:
    """The network with weights that the user gave, where that alone is worth evaluating."""
    return None

  def preflight(self) -> list[checks.Check]:
    """As of all learners, and whether the device is known."""
    return [*super().preflight(), lambda: device_costs.require_device(self.settings.run)]

  def memory_needs(self) -> list[Need]:
    """As of all learners, and exporting."""
    flat, needs = flatten_model(self.model), super().memory_needs()
    also = [estimate.of_quantising(self.budget, all_bytes(flat), needs)]
    also = also if self.settings.run.wants_int8 else []
    return [*needs, estimate.of_measuring(self.budget, map_bytes(flat), needs), *also]

  # The modes.

  def train(self) -> Result:
    """Runs all phases that have not been run yet, and publishes the report.

    Raises:
      UserError: bad data or files, a diverging loss, or a checkpoint of another run.
    """
    try:
      self.run_phases()
      return self._publish()
    finally:
      lock.release(self.files.save_path.parent)

  def _publish(self) -> Result:
    report = reporting.publish(self.settings, self.files, self.session.state, self.phases())
    files = distributed.from_chief(self.files.exported)
    say(estimate.against_peak(self.estimated))
    model = self.helper.task.deployable(self.settings.in_float32(self.model))
    return Result(in_kind(model, self.helper), report, files, self.files.plan)

  def evaluate(self) -> dict[str, Evaluation]:
    """Evaluates the exported files again: every evaluation sample, once each.

    Of a run that was stopped, or whose files are gone, the last checkpoint. Exported files are whole or
    not there, and are only read: they need no lock. A checkpoint may be replaced while it is read.

    Returns:
      One evaluation per file format; under `checkpoint` that of the last checkpoint.

    Raises:
      UserError: nothing was exported or saved yet.
    """
    identity.require_agreement(self.settings)
    there = distributed.from_chief(lambda: 'keras' in self.files.exported())
    if there or CheckpointStore(self.files.save_path).latest() is None:
      return modes.evaluate(self.settings, self.files, *self._exported_model())
    with lock.held(self.files.locked):
      self.resume()
    say(
      f'There is no {self.files.save_path_eval.name}.keras: evaluating the last checkpoint '
      f'({self.session.describe()}).'
    )
    model = self.helper.task.deployable(self.compressed_model())
    return modes.evaluate(self.settings, self.files, model, modes.CHECKPOINT)

  def export(self) -> dict[str, Path]:
    """Exports the exported .keras model again, such as with --export_int8 this time.

    Raises:
      UserError: nothing was exported yet, or another command is working in the folder.
    """
    identity.require_agreement(self.settings)
    with lock.held(self.files.locked):
      model, twin, repair = self._exported_model()[0], None, None
      if self.settings.quantization.enbl_qat:
        self.resume()
        twin = self.quantized and self.helper.task.deployable(self.quantized)
      if twin is None:
        repair = int8_repair.repairer(self.settings, self.helper.task.trained(model))
      made = modes.export(self.settings, self.files, model, twin, self.further_formats(), repair)
    return {kind: file.path for kind, file in made.files.items()}

  def benchmark(self) -> dict[str, list[dict[str, float]]]:
    """Times the exported .tflite files, the original's beside them where there is one.

    Raises:
      UserError: nothing was exported yet, or another command is working in the folder.
    """
    identity.require_agreement(self.settings)
    with lock.held(self.files.locked):
      return modes.benchmark(self.settings, self.files)

  def verify(self) -> Verification:
    """Compares the exported .tflite files with the Keras model, layer by layer.

    Raises:
      UserError: nothing was exported yet, or another command is working in the folder.
    """
    identity.require_agreement(self.settings)
    with lock.held(self.files.locked):
      return modes.verify(self.settings, self.files, self._exported_model()[0])

  def _exported_model(self) -> tuple[keras.Model, str]:
    """The deployable model to work on and its kind: the exported one, else given weights."""
    path = distributed.from_chief(lambda: self.files.exported().get('keras'))
    if path is not None:
      return load_model(path), 'keras'
    given = self.given_model()
    if given is None:
      raise self.files.nothing_exported()
    return self.helper.task.deployable(given), 'weights'

  # Measuring.

  def measure_phase(self) -> Phase:
    """Evaluates, exports and times the result, and prepares the report."""
    return Phase(MEASURE, self._measure)

  def outdated_phases(self) -> list[str]:
    """The measuring, where a file or figure that is wanted is not there, or was made with other flags.

    Training in 8 bits, too, where it was done with other flags, or is not wanted any more. An unknown
    --bench_device is refused: no preflight comes before a resumed run.
    """
    device_costs.require_device(self.settings.run)
    measured = self.session.is_done(MEASURE)
    if self.forgets_other_quantization(measured):
      return [name for name in (quantized.PHASE, MEASURE) if self.session.is_done(name)]
    if not measured:
      return []
    report = self.session.state.report
    reasons = outdated.reasons(self.settings, self.files, report, sparse=self.leaves_zeros)
    if reasons:
      say(f'Exporting and measuring again, because {" and ".join(reasons)}.')
    return [MEASURE] if reasons else []

  def _measure(self) -> None:
    state, model = self.session.state, self.compressed_model()
    repair = int8_repair.repairer(self.settings, model) if self.quantized is None else None
    measured = measuring.measure(
      model,
      self.settings,
      self.files.save_path_eval,
      self.prunable(model),
      sparse=self.leaves_zeros,
      further={**formats.writers(self.settings.run), **self.further_formats()},
      quantized=self.quantized,
      post_training_score=state.post_training_score,
      repair=repair,
    )
    distributed.from_chief(lambda: self.files.remove_others(measured.export.files))
    blocks: dict[str, dict[str, Any]] = {'compressed': measured.block}
    prefixes = {'compressed': self.files.save_path_eval}
    original, before = measured.block, count(model)
    if not self.is_original:
      self._complete_original()
      original = blocks['original'] = state.original
      prefixes['original'] = self.files.original_prefix
      before = count(load_model(self.files.original_keras))
    files, run = formats.timed_apart(measured.export), self.settings.run
    timed = latencies.add_latency(blocks, prefixes, run, files)
    state.report = reporting.build_report(
      self.settings,
      self.findings(),
      original=original,
      compressed=measured.block,
      counts=(before, count(model)),
      layer_sparsities=measuring.layer_sparsities(model),
      parity=measured.export.parity_figures(),
    )
    state.report['formats'] = formats.table(self.settings, measured.export, measured.block, timed)
    int8_layers.add_to(state.report, self.settings, model, measured.export, repair)
    distributed.from_chief(lambda: plans.write_plan(self.cut_plan(), self.files.plan))

  def original_model(self) -> keras.Model:
    """The float32 network before compression, from its file."""
    return self.helper.task.trained(load_model(self.files.original_keras))

  def _complete_original(self) -> None:
    """Measures the original again, where a file of it is wanted and is not there."""
    state = self.session.state
    if outdated.original_lacks(self.settings, self.files, state.original, state.report):
      model = self.original_model()
      state.original = measuring.measure(
        model, self.settings, self.files.original_prefix, self.prunable(model), reuse=True
      ).block
