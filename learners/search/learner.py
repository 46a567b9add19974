"""What joint-search is made of: networks on disk, their files, and how one is tried."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.compression import CompressionLearner
from secateurs.learners.run.console import say
from secateurs.learners.run.files import with_ending
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.preflight.checks import Check
from secateurs.learners.run.results import plans
from secateurs.learners.run.results.plans import CutPlan
from secateurs.learners.run.training.judging import judging_samples, judging_split
from secateurs.learners.search import opening, planning, samples, stepping, telling
from secateurs.learners.search.building import Repair, even_bits
from secateurs.learners.search.choosing import Choice
from secateurs.learners.search.config import JsConfig
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
from secateurs.learners.search.trying import Judge, drop_of
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.packed.export import write_packed
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path
from secateurs.utils.graph import save_model
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.shadow import ShadowWeights
from secateurs.utils.training.models.quantization import zero_masks
from secateurs.utils.training.models.weights import kernels_by_name, load_model


class SearchLearner(CompressionLearner):
  """Keeps the networks of a search, and trains and judges the one that is tried."""

  config: JsConfig
  state: JsState

  def __init__(self, helper: Helper, config: JsConfig | None = None, **options: Any) -> None:
    """As of all learners; half of the evaluation set may be given away for judging."""
    half = config is not None and config.judge == 'half'
    super().__init__(HalfJudging(helper) if half else helper, config, **options)

  _candidate: keras.Model | None = None
  _shadows: ShadowWeights | None = None
  _plan: CutPlan | None = None

  def build(self) -> keras.Model:
    """The chosen network, once there is one."""
    return self._network(self.state.chosen) if self.state.chosen else super().build()

  def prepare(self) -> None:
    """Makes the network that is being trained again, and what its weights share."""
    if self.settings.run.layers is not None:
      raise UserError('--layers has no effect on joint-search: leave it out (see --js_skip).')
    self._read_plan()
    self._known: dict[int, list[Choice]] = {}
    self._candidate = self._shadows = None
    state = self.state
    self._set_file()
    if state.candidate is not None:
      self._open(state.candidate, self._network(state.candidate.number, trained=False))
    elif state.chosen:
      self._share(self.model, state.tries[state.chosen - 1].bits)

  def preflight(self) -> list[Check]:
    """As of all learners, and whether a drop can be seen on so many samples at all."""
    return [*super().preflight(), self._require_tellable]

  def _require_tellable(self) -> None:
    if self.helper.task.name == 'classification' and self._plan is None:
      held_out = self.helper.nb_samples(judging_split(self.helper))
      opening.require_tellable(self.config, min(held_out, self.config.nb_smpls_judge), True)

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

  @functools.cached_property
  def _judge(self) -> Judge:
    inputs, targets = judging_samples(self.helper, self.config.nb_smpls_judge)
    return Judge(inputs, targets, self.helper.task)

  @property
  def _costs(self) -> Costs:
    path = with_ending(self.files.original_prefix, '.tflite')
    timed = self.session.state.original.get('latency')
    ms = timed[0]['p50_ms'] if timed else self._original_ms(path)
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

  def _begin(self, tried: Try, model: keras.Model) -> None:
    distributed.from_chief(lambda: self._write(tried.number, model))
    self._open(tried, self._network(tried.number, trained=False))
    if self._shadows is not None:
      self._shadows.start()
    self.state.candidate = tried
    self.save('search', 0)

  def _open(self, tried: Try, model: keras.Model) -> None:
    self._candidate = self.settings.in_training_precision(model)
    self._share(self._candidate, tried.bits)

  def _share(self, network: keras.Model, bits: Mapping[str, int]) -> None:
    self._shadows = shadows_of(network, bits) if bits else None

  def _finish(self, tried: Try) -> None:
    """Trains and judges the candidate, and decides whether the search goes on from it."""
    state, config, began = self.state, self.config, time.perf_counter()
    self._train(*self._lesson(tried))
    model = self.settings.in_float32(self._candidate)
    if tried.number == 0:
      self._refer(model)
    elif not self._settled(tried, model):
      tried.longer = True
      tried.seconds += time.perf_counter() - began
      self.save('search', 0)
      return
    tried.seconds += time.perf_counter() - began
    state.seconds += tried.seconds
    state.candidate = self._candidate = self._shadows = None
    for name in (f'try{tried.number}', f'try{tried.number}_longer'):
      self.session.times.entries.pop(name, None)  # They are part of the search.
    if tried.number:
      say(telling.ending(config, state, tried))
    self.save('search', 0)

  def _lesson(self, tried: Try) -> tuple[str, keras.Model, int]:
    """Name, network and steps of the training that a candidate is in."""
    steps = self.state.try_steps
    if tried.longer:
      return f'try{tried.number}_longer', self._candidate, stepping.LONGER * steps
    return f'try{tried.number}', self._candidate, steps

  def _refer(self, model: keras.Model) -> None:
    """Takes the trained original as the reference, where that is fair."""
    state = self.state
    judged = self._judge(dataclasses.replace(self._costs, file='float').predictor(model))
    original = state.reference_value, state.reference
    found = opening.pick_reference(original, (judged.score.goodness, judged.parts))
    state.reference_is, state.reference, state.reference_value = found
    say(f'reference  {state.reference_is}; after the training of a try: {judged.score}')

  def _settled(self, tried: Try, model: keras.Model) -> bool:
    """Judges a candidate; False where it is so near to the limit that it is to train longer."""
    state, config = self.state, self.config
    judged = self._judge(self._costs.predictor(model))
    drop = drop_of(state.reference, judged)
    tried.score, tried.drop, tried.most = judged.score.value, drop.value, drop.most
    tried.accepted = config.limit is not None or drop.most <= config.max_drop
    if not (tried.accepted or tried.longer) and stepping.is_near(drop.value, config.max_drop):
      say(
        f'try {tried.number}  drop {telling.points(state, drop.value)}: near, so it trains longer'
      )
      return False
    tried.cost = self._costs.of(model, tried.bits)
    state.tries.append(tried)
    if tried.accepted:
      distributed.from_chief(lambda: self._write(tried.number, model, best=True))
      state.base = tried.number
    state.step = stepping.next_step(state.step, tried.accepted)
    return True

  def _write(self, number: int, model: keras.Model, *, best: bool = False) -> None:
    path = self._path(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
      save_model(model, partial)
    if best:
      content = self._costs.content(model, self.state.tries[number - 1].bits)
      with atomic_path(path.with_name(f'best{ENDINGS[self.state.file]}')) as partial:
        partial.write_bytes(content)

  def _train(self, phase: str, network: keras.Model, nb_steps: int) -> None:
    if not nb_steps:
      return
    masks = zero_masks(network) if self._shadows is None else self._shadows.masks
    constraint = masks if self._shadows is None else self._shadows
    self.fit(
      phase,
      self.objective(network),
      self.rates.fine_tune_optimizer(nb_steps, masks),
      nb_steps=nb_steps,
      network=network,
      hooks=Hooks(constraints=[] if constraint is None else [constraint]),
    )

  # Samples.

  def bn_batches(self, model: keras.Model) -> Iterable[tf.Tensor]:
    """Batches of inputs that batch normalisation is re-estimated over."""
    return samples.bn_batches(self.settings, self.sample_augmentation, model)

  @functools.cached_property
  def repair(self) -> Repair:
    """Samples and method of refits."""
    return samples.repair(self.settings, self.sample_augmentation, self.budget.store)


def _whole_kernels(model: keras.Model) -> dict:
  return {name: (kernel, whole_kernel(kernel)) for name, kernel in kernels_by_name(model).items()}
