"""Everything of a learner that is not the algorithm: phases, training, checkpoints, resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import identity, modes, quantized, reporting
from secateurs.learners.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.distillation import classification
from secateurs.learners.helper import Helper
from secateurs.learners.phase_times import PhaseTimes
from secateurs.utils.config import Config, Default
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path, explain_os_errors, require_writable
from secateurs.utils.training import distributed, loop
from secateurs.utils.training.callbacks import PhaseCallbacks
from secateurs.utils.training.checkpoints import CheckpointStore, Saved
from secateurs.utils.training.evaluation import Evaluation
from secateurs.utils.training.masks import Masks
from secateurs.utils.training.metrics import MetricsWriter
from secateurs.utils.training.objectives import Classification
from secateurs.utils.training.precision import with_policy
from secateurs.utils.training.progress import Progress, format_seconds
from secateurs.utils.training.quantization import quantized_twin, wrapped
from secateurs.utils.training.schedules import GradualWarmUp
from secateurs.utils.training.weights import leaf_layers, named_weights, read_weights

_MAX_SEED = 1 << 28


@dataclasses.dataclass(frozen=True)
class Phase:
  """A named step of a run; `run` starts over or goes on from the checkpoint of this very phase."""

  name: str
  run: Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Result:
  """What a finished run gives.

  Attributes:
    model: the compressed model, float32.
    report: content of report.json.
    files: the exported files by format: keras, pb, tflite and, if asked for, tflite_int8.
  """

  model: keras.Model
  report: dict[str, Any]
  files: dict[str, Path]

  def export(self, path: str | Path) -> Path:
    """Copies the exported file of the path's ending: .tflite, .keras or .pb.

    `<name>_int8.tflite` and `<name>_sparse.tflite` mean those files.

    Raises:
      UserError: there is no such file.
    """
    path = Path(path).expanduser()
    kind = path.suffix.removeprefix('.')
    for other in ('int8', 'sparse'):
      if path.stem.endswith(f'_{other}'):
        kind = f'{kind}_{other}'
    if kind not in self.files:
      raise UserError(
        f'{path} cannot be exported: the run has made {", ".join(self.files)}; take an ending of '
        'these, or set export_int8 for int8.'
      )
    with explain_os_errors(path.parent), atomic_path(path) as partial:
      shutil.copyfile(self.files[kind], partial)
    return path


class Learner:
  """A compression algorithm as a list of phases.

  `train` runs the phases in order, saves a checkpoint behind each and inside long ones, and on a
  second call, in whatever process, goes on behind the last thing that was saved. A subclass gives
  `phases` and, where they need more than the model's weights to go on, `prepare`,
  `extra_variables` and `self.state['algorithm']`, a JSON object of its own.

  Attributes:
    model: the network that the phases work on, in the precision of the training.
    quantized: with --enbl_qat, its float32 twin that simulates 8 bits, from that phase on.
    state: JSON object that is saved with every checkpoint.
    teacher: with --enbl_dst, the network that is learned from, once a phase has asked for it.
  """

  name: ClassVar[str]
  aliases: ClassVar[tuple[str, ...]] = ()
  Config: ClassVar[type[Config]]

  def __init__(
    self,
    helper: Helper,
    config: Config | None = None,
    *,
    run: RunConfig | None = None,
    training: TrainConfig | None = None,
    distillation: DistillConfig | None = None,
    quantization: QuantConfig | None = None,
  ) -> None:
    self.helper = helper
    self.config = config if config is not None else self.Config()
    self.run_config = run or RunConfig()
    self.train_config = training or TrainConfig()
    self.distill_config = distillation or DistillConfig()
    self.quant_config = quantization or QuantConfig()
    self.model: keras.Model | None = None
    self.quantized: keras.Model | None = None
    self.state: dict[str, Any] = {}
    self.teacher: keras.Model | None = None
    self._saved: Saved | None = None
    self._times = PhaseTimes({})

  # What a subclass gives.

  def phases(self) -> list[Phase]:
    """The steps of the run, in order."""
    raise NotImplementedError

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Variables beside the model's and the optimizer's that a checkpoint must hold."""
    return {}

  def build(self) -> keras.Model:
    """The network that a checkpoint's weights fit, given `self.state`."""
    return self.helper.build_model(self.run_config.seed)

  def prepare(self) -> None:
    """Makes what `extra_variables` gives; runs once, when there is a model but no phase has run."""

  def compressed_model(self) -> keras.Model:
    """The float32 model that is exported."""
    return self.in_float32(self.model)

  def classification(self, model: keras.Model | None = None) -> Classification:
    """The objective of training a model (default: the run's), with distillation if asked for."""
    return classification(self, None, model)

  def quantization_phases(self) -> list[Phase]:
    """What stands between the training and the measuring of the result."""
    if not self.quant_config.enbl_qat:
      return []
    return [Phase(quantized.PHASE, lambda: quantized.train_quantized(self))]

  def given_model(self) -> keras.Model | None:
    """The network with weights that the user gave, where that alone is worth evaluating."""
    return None

  # Paths.

  @property
  def save_path(self) -> Path:
    """Prefix of this learner's checkpoints."""
    return self.path(self.config, 'save_path')

  @property
  def save_path_eval(self) -> Path:
    """Prefix of this learner's exported files."""
    return self.path(self.config, 'save_path_eval')

  @property
  def log_dir(self) -> Path:
    """Folder of the report."""
    return self.path(self.run_config, 'log_dir')

  def path(self, config: Config, field: str) -> Path:
    """A path of a config: in the run's folder if nobody gave it, else where it says."""
    value = getattr(config, field)
    path = Path(value.replace('<learner>', self.name)).expanduser()
    if not isinstance(value, Default):
      return path
    return Path(self.run_config.run_dir or f'./runs/{self.helper.name}').expanduser() / path

  # The run, in each of its modes.

  def evaluate(self) -> dict[str, Evaluation]:
    """Evaluates the exported files again: every evaluation sample, once each.

    Returns:
      One evaluation per file format.

    Raises:
      UserError: nothing was exported yet.
    """
    identity.require_agreement(self)
    return modes.evaluate(self)

  def export(self) -> dict[str, Path]:
    """Exports the exported .keras model again, such as with --export_int8 this time.

    Raises:
      UserError: nothing was exported yet.
    """
    identity.require_agreement(self)
    return modes.export(self)

  def benchmark(self) -> dict[str, list[dict[str, float]]]:
    """Times the exported .tflite files, the original's beside them where there is one.

    Raises:
      UserError: nothing was exported yet.
    """
    identity.require_agreement(self)
    return modes.benchmark(self)

  def train(self) -> Result:
    """Runs all phases that have not been run yet, and publishes the report.

    Raises:
      UserError: bad data or files, a diverging loss, or a checkpoint of another run.
    """
    self.run_phases()
    report = reporting.publish(self)
    files = distributed.from_chief(lambda: reporting.exported_files(self))
    return Result(self.helper.deployable(self.in_float32(self.model)), report, files)

  def run_phases(self, until: str | None = None) -> None:
    """Runs the phases that have not been run yet, up to and with one of them."""
    self.resume()
    for phase in self.phases():
      if phase.name not in self.state['done']:
        with self._times.running(phase.name):
          phase.run()
        self.state['done'].append(phase.name)
        self.save(phase.name, 0)
      if phase.name == until:
        return

  def resume(self) -> None:
    """Takes up the last checkpoint, or starts afresh.

    Raises:
      UserError: the checkpoint belongs to a run with other flags.
    """
    identity.require_agreement(self)
    distributed.from_chief(self._require_writable)  # Told now, and not behind hours of training.
    self.store = CheckpointStore(self.save_path)
    self.metrics = MetricsWriter(self.log_dir)
    self._saved = self.store.latest()
    if self._saved is None:
      self.state = {
        'identity': identity.identity(self),
        'done': [],
        'phase': None,
        'step': 0,
        'phases': {},
        'algorithm': {},
        'original': None,
        'report': None,
      }
      self._times = PhaseTimes(self.state['phases'])
      self.model = self.in_training_precision(self.build())
      self.prepare()
      return
    identity.require_same_run(self, self._saved)
    self.state = self._saved.state
    self._times = PhaseTimes(self.state['phases'])
    self.model = self.in_training_precision(self.build())
    self.prepare()
    self._saved.restore(named_weights(self.model), group='model')
    self._saved.restore(dict(self.extra_variables()), group='extra')
    if quantized.PHASE in (self.state['phase'], *self.state['done']):
      self.quantized = quantized_twin(self.compressed_model())
      self._saved.restore(named_weights(self.quantized), group='quantized')
    self.say(f'Going on from {self._saved.prefix}: done are {self._describe_done()}.')

  def _require_writable(self) -> None:
    for folder in (self.log_dir, self.save_path.parent, self.save_path_eval.parent):
      require_writable(folder)

  def save(
    self, phase: str, step: int, optimizer: keras.optimizers.Optimizer | None = None
  ) -> None:
    """Writes a checkpoint of this moment, and brings all processes to what stands in it."""
    self._times.read()
    self.state.update(phase=phase, step=step)
    groups = {'model': named_weights(self.model), 'extra': dict(self.extra_variables())}
    if optimizer is not None:
      groups['optimizer'] = _optimizer_variables(optimizer)
    further = [variable for variable in groups['extra'].values() if not variable.trainable]
    distributed.mean_variables([*self.model.non_trainable_weights, *further])
    if self.quantized is not None:
      groups['quantized'] = named_weights(self.quantized)
      distributed.mean_variables(self.quantized.non_trainable_weights)
    distributed.broadcast_variables(v for group in groups.values() for v in group.values())
    self.store.save(groups, self.state)

  def fit(
    self,
    phase: str,
    objective: loop.Objective,
    optimizer: keras.optimizers.Optimizer,
    *,
    nb_steps: int,
    model: keras.Model | None = None,
    variables: Sequence[tf.Variable] | None = None,
    masks: Masks | None = None,
    events: Iterable[loop.Event] = (),
    extra_metrics: Callable[[], Mapping[str, float]] = dict,
  ) -> None:
    """Trains for some steps, or for what is left of them after an interruption.

    Args:
      phase: name of the phase; its order of samples follows from it and the seed.
      objective: what is minimised.
      optimizer: a fresh one; its slots are restored if the run was saved inside this phase.
      nb_steps: steps of the whole phase.
      model: what the objective runs; default: the learner's model.
      variables: what is trained; default: all trainable variables of the model.
      masks: kept at zero where pruned.
      events: what else is due behind certain steps, before the checkpoint of that step.
      extra_metrics: further metrics at a summary.
    """
    model = self.model if model is None else model
    variables = list(model.trainable_variables if variables is None else variables)
    batch_size = self.batch_size_total
    step = loop.TrainStep(
      objective,
      variables,
      optimizer,
      weight_decay=self.weight_decay,
      decayed=self.decayed_variables(model),
      masks=masks,
      compression=self.train_config.grad_compression,
    )
    start = self._restore_optimizer(phase, optimizer)
    distributed.broadcast_variables(
      [*model.weights, *self.extra_variables().values(), *optimizer.variables]
    )
    if distributed.is_chief():
      self.metrics.forget(phase, start)
    progress = Progress(
      phase,
      start,
      nb_steps,
      batch_size,
      shown=distributed.is_chief(),
      metrics=self.helper.criteria.metric_names,
    )
    nb_samples = self.helper.nb_samples('train')
    callbacks = PhaseCallbacks(
      self.helper.callbacks,
      model,
      phase,
      start=start,
      stop=nb_steps,
      steps_per_epoch=nb_samples / batch_size,
      say=self.say,
    )

    def summary(done: int, means: dict[str, float]) -> None:
      if not distributed.is_chief():
        return
      values = {**means, **extra_metrics()}
      progress.summary(done, values)
      rates = {'lrn_rate': step.learning_rate, 'images_per_sec': progress.images_per_sec or None}
      epoch = done * batch_size / nb_samples
      self.metrics.write(phase, done, {'epoch': epoch, **values, **rates})

    def checkpoint(done: int, means: dict[str, float]) -> None:
      del means
      self._times.note_training(phase, done, progress.images_per_sec)
      self.save(phase, done, optimizer)

    run = self.run_config
    summaries = loop.Event(summary, every=run.summ_step, at=[nb_steps])
    checkpoints = loop.Event(checkpoint, every=run.save_step)
    callbacks.begin()
    with self._times.running(phase), contextlib.closing(progress):
      loop.run(
        step,
        self.helper.train_batches(
          self.batch_size,
          self.stream_seed(phase),
          start,
          augment=self.augmentation,
          shard=distributed.shard(),
        ),
        start=start,
        stop=nb_steps,
        phase=phase,
        events=[*events, summaries, *callbacks.events(), checkpoints],
        progress=lambda done, means: progress.update(done, means),
      )
    callbacks.end()
    distributed.mean_variables(model.non_trainable_weights)
    self._times.note_training(phase, nb_steps, progress.images_per_sec)

  # What phases need.

  def starts_over(self, phase: str) -> bool:
    """Whether a phase begins at its first step, and not behind a checkpoint inside it."""
    return self.state['phase'] != phase or not self.state['step']

  @property
  def augmentation(self) -> str:
    """What may happen to training images."""
    return 'all'

  @property
  def batch_size(self) -> int:
    """Samples of a training step of one process."""
    return self.train_config.batch_size or self.helper.recipe.batch_size

  @property
  def batch_size_total(self) -> int:
    """Samples of a training step of all processes."""
    return self.batch_size * distributed.size()

  @property
  def weight_decay(self) -> float:
    """Factor of the L2 term."""
    given = self.train_config.loss_w_dcy
    return self.helper.recipe.weight_decay if given is None else given

  def nb_steps(self, nb_epochs: float) -> int:
    """Steps in so many epochs: at least one, unless there are no epochs."""
    steps = round(nb_epochs * self.helper.nb_samples('train') / self.batch_size_total)
    return max(steps, 1) if nb_epochs else 0

  def scaled_rate(self, lrn_rate: float) -> float:
    """A learning rate stated for the recipe's batch size, for that of this run's processes."""
    return lrn_rate * self.batch_size_total / self.helper.recipe.batch_size

  def warmed_up(
    self, schedule: keras.optimizers.schedules.LearningRateSchedule, nb_steps: int
  ) -> keras.optimizers.schedules.LearningRateSchedule:
    """A schedule of scaled rates that starts at the unscaled one, if that is lower."""
    share = self.helper.recipe.batch_size / self.batch_size_total
    steps = round(self.train_config.warm_up_ratio * nb_steps)
    return GradualWarmUp(schedule, share, steps) if share < 1 and steps else schedule

  @property
  def lrn_rate_init(self) -> float:
    """Initial rate of a whole training, for this run's batch size."""
    given = self.train_config.lrn_rate_init
    return self.scaled_rate(self.helper.recipe.lrn_rate if given is None else given)

  @property
  def momentum(self) -> float:
    """Of SGD and of Muon."""
    given = self.train_config.momentum
    return self.helper.recipe.momentum if given is None else given

  def sgd(
    self, rate: keras.optimizers.schedules.LearningRateSchedule | float
  ) -> keras.optimizers.SGD:
    """SGD with the run's momentum."""
    return keras.optimizers.SGD(rate, momentum=self.momentum, jit_compile=False)

  def decayed_variables(self, model: keras.Model | None = None) -> list[tf.Variable]:
    """Variables with weight decay: all trainable ones but those of normalisation layers."""
    return [
      variable
      for layer in leaf_layers(model or self.model)
      if 'Normalization' not in type(wrapped(layer)).__name__
      for variable in layer.trainable_weights
    ]

  def stream_seed(self, phase: str) -> int:
    """Seed of a phase's order of samples: another for each phase and each run's seed."""
    return zlib.crc32(f'{self.run_config.seed}/{phase}'.encode()) % _MAX_SEED

  def in_training_precision(self, model: keras.Model) -> keras.Model:
    """The model as it is trained: a bfloat16 twin if asked for."""
    return with_policy(model, 'mixed_bfloat16') if self.run_config.enbl_bf16 else model

  def in_float32(self, model: keras.Model) -> keras.Model:
    """The model as it is measured and exported: bfloat16 is no format of TensorFlow Lite."""
    return with_policy(model, 'float32') if self.run_config.enbl_bf16 else model

  def read_weights(self, path: str | Path) -> dict[str, np.ndarray]:
    """Weights from a file, by the network's names.

    Raises:
      UserError: nothing there, or not readable.
    """
    return dict(self.helper.own_weights(read_weights(path)))

  def say(self, text: str) -> None:
    """Tells the user something; of several processes one does."""
    if distributed.is_chief():
      print(text, flush=True)

  def _restore_optimizer(self, phase: str, optimizer: keras.optimizers.Optimizer) -> int:
    """Restores the slots if the run was saved inside this phase; returns the steps done."""
    if self._saved is None or self.state['phase'] != phase or phase in self.state['done']:
      return 0
    if self.state['step']:
      self._saved.restore(_optimizer_variables(optimizer), group='optimizer')
    return self.state['step']

  def _describe_done(self) -> str:
    parts = [
      f'{phase} ({format_seconds(self._times.seconds(phase))})' for phase in self.state['done']
    ]
    if self.state['phase'] not in self.state['done']:
      parts.append(f'{self.state["step"]} steps of phase {self.state["phase"]}')
    return ', '.join(parts) or 'nothing yet'


def _optimizer_variables(optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Variable]:
  # The learning rate is a function of the iterations where it is a schedule; where it is a
  # variable it is one of these.
  return {v.name.split(':')[0]: v for v in optimizer.variables}
