"""Networks of a search, on disk and in training, and what their files cost."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.compression import CompressionLearner
from secateurs.learners.run.files import with_ending
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.results import plans
from secateurs.learners.run.results.plans import CutPlan
from secateurs.learners.search import planning, samples
from secateurs.learners.search.building import even_bits
from secateurs.learners.search.choosing import Choice
from secateurs.learners.search.config import HALF, JsConfig
from secateurs.learners.search.files import (
  ENDINGS,
  Costs,
  latency_of,
  shadows_of,
  whole_kernel,
)
from secateurs.learners.search.reach import Reach
from secateurs.learners.search.samples import HalfJudging
from secateurs.learners.search.scene import Scene
from secateurs.learners.search.state import JsState, Try
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.packed.export import write_packed
from secateurs.utils.deploy.reports.blocks import median_latency
from secateurs.utils.files import atomic_path
from secateurs.utils.graph import save_model
from secateurs.utils.training.engine.shadow import ShadowWeights
from secateurs.utils.training.models.weights import kernels_by_name, load_model


class NetworkLearner(CompressionLearner):
  """Keeps the networks of a search, and makes them again when a run is resumed."""

  config: JsConfig
  state: JsState
  without_effect: ClassVar[Mapping[str, str]] = {
    'layers': 'leave it out, and name layers that stay whole in --js_skip'
  }

  def __init__(self, helper: Helper, config: JsConfig | None = None, **options: Any) -> None:
    """As of all learners; half of the evaluation set may be given away for judging."""
    config = JsConfig() if config is None else config
    judge = samples.who_judges(helper, config, options.get('run'))
    config = dataclasses.replace(config, judge=judge)
    super().__init__(HalfJudging(helper) if judge == HALF else helper, config, **options)

  _candidate: keras.Model | None = None
  _shadows: ShadowWeights | None = None
  _plan: CutPlan | None = None

  def build(self) -> keras.Model:
    """The chosen network, once there is one."""
    return self._network(self.state.chosen) if self.state.chosen else super().build()

  def prepare(self) -> None:
    """Makes the network that is being trained again, and what its weights share."""
    self._read_plan()
    self._known: dict[int, list[Choice]] = {}
    self._candidate = self._shadows = None
    state = self.state
    self._set_file()
    if state.candidate is not None:
      self._open(state.candidate, self._network(state.candidate.number, trained=False))
    elif state.chosen:
      self._share(self.model, state.tries[state.chosen - 1].bits)

  def _read_plan(self) -> None:
    """Reads the plan to apply, if there is one, and checks that it belongs to this network."""
    path, self._plan = self.settings.run.plan, None
    if path is not None:
      self._plan = plans.read_plan(path)
      network = self.helper.build_model(self.settings.run.seed)
      plans.require_same_network(self._plan, network, path)

  def cut_plan(self) -> CutPlan:
    """What the search took, or the plan that was applied."""
    empty = super().cut_plan()
    if self._plan is not None:
      return dataclasses.replace(self._plan, learner=empty.learner, method=empty.method)
    return planning.cut_plan(empty, self.state, self.compressed_model(), self._reach)

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Codebooks of the network that is being trained."""
    return {} if self._shadows is None else self._shadows.tensors()

  def networks(self) -> Mapping[str, keras.Model]:
    """The network that is being tried."""
    tried = {} if self._candidate is None else {'candidate': self._candidate}
    return {**super().networks(), **tried}

  def further_formats(self) -> Mapping[str, Writer]:
    """The packed file."""
    if self.state.file != 'packed':
      return {}
    return {'dc': functools.partial(write_packed, buckets=_whole_kernels)}

  # What the search works with.

  @property
  def _costs(self) -> Costs:
    path = with_ending(self.files.original_prefix, '.tflite')
    ms = median_latency(self.session.state.original) or self._original_ms(path)
    return Costs(self.config.cost, self.state.file or 'float', self.settings, path, ms)

  def _original_ms(self, path: Path) -> float:
    """Latency of the original's float file, which is measured once."""
    if not self.state.original_ms and self.config.cost == 'latency':
      self.state.original_ms = latency_of(path, min(self.settings.run.threads))
    return self.state.original_ms

  def _set_file(self) -> None:
    """Has the int8 file exported where that is what is searched for."""
    if self.state.file == 'int8' and not self.settings.run.export_int8:
      run = dataclasses.replace(self.settings.run, export_int8=True)
      self.settings = dataclasses.replace(self.settings, run=run)

  def _path(self, number: int) -> Path:
    return self.files.save_path.parent / 'networks' / f'network_{number}.keras'

  def _network(self, number: int, *, trained: bool = True) -> keras.Model:
    """A network of the search, float32; number 0 is the original, or its control."""
    if number == 0 and trained:
      return self.original_model()
    return load_model(self._path(number))

  @property
  def _reach(self) -> Reach:
    """Which channels may go: norms and heads as the plan to apply has them, or the flags."""
    config, how = self.config, self._plan or self.config
    return Reach(config.trunk, config.skipped, how.norms, how.heads, config.even_splits)

  def _scene(self, number: int) -> Scene:
    state, model = self.state, self._network(number)
    bits = state.tries[number - 1].bits if number else {}
    if state.file == 'packed' and not number:
      bits = even_bits(model, self.config.weight_bits)
    found = self.config
    return Scene(
      model,
      bits,
      self._reach,
      self.settings,
      found.cost,
      state.file,
      state.ms_by_part,
      found.kinds,
    )

  def _open(self, tried: Try, model: keras.Model) -> None:
    self._candidate = self.settings.in_training_precision(model)
    self._share(self._candidate, tried.bits)

  def _share(self, network: keras.Model, bits: Mapping[str, int]) -> None:
    self._shadows = shadows_of(network, bits) if bits else None

  def _write(self, number: int, model: keras.Model, *, best: bool = False) -> None:
    path = self._path(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
      save_model(model, partial)
    if best:
      content = self._costs.content(model, self.state.tries[number - 1].bits)
      with atomic_path(path.with_name(f'best{ENDINGS[self.state.file]}')) as partial:
        partial.write_bytes(content)


def _whole_kernels(model: keras.Model) -> dict:
  return {name: (kernel, whole_kernel(kernel)) for name, kernel in kernels_by_name(model).items()}
