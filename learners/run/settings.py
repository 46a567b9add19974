"""All that a run follows from: the learner's name, network and data, and hyper-parameters."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.layer_choice import LayerChoice, read_layers
from secateurs.utils.config import Config, Default
from secateurs.utils.processor import computes_bfloat16
from secateurs.utils.training import distributed
from secateurs.utils.training.models.precision import with_policy

_MAX_SEED = 1 << 28
FLOAT32_NOTE = (
  'Training in float32: on this processor, which has no unit for bfloat16 such as AMX, --enbl_bf16 '
  'would be slower; --enbl_bf16 force does it all the same.'
)


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a learner was made with.

  Attributes:
    learner: its name.
    helper: network, data, task and recipe.
    config: the learner's own hyper-parameters.
    run: files, seed, precision, export.
    training: how networks are trained.
    distillation: whether and how a teacher helps.
    quantization: whether and how training in 8 bits follows.
    method: name of the published method that the user asked for, if any.
  """

  learner: str
  helper: Helper
  config: Config
  run: RunConfig
  training: TrainConfig
  distillation: DistillConfig
  quantization: QuantConfig
  method: str | None = None

  def flags(self, *, affecting_result: bool = False) -> dict[str, Any]:
    """Flag names and values of all configs; only those that change the result if asked."""
    found: dict[str, Any] = {}
    for config in self._configs:
      found |= config.as_flags(affecting_result=affecting_result)
    return found

  def default_flags(self) -> dict[str, Any]:
    """Flag names and default values of all configs."""
    found: dict[str, Any] = {}
    for config in self._configs:
      found |= config.default_flags()
    return found

  @property
  def _configs(self) -> tuple[Config, ...]:
    shared = (self.run, self.training, self.distillation, self.quantization)
    return (*self.helper.configs, self.config, *shared)

  def path(self, config: Config, field: str) -> Path:
    """Resolves a path of a config: default ones lie in the run's folder, given ones are as given."""
    value = getattr(config, field)
    path = Path(value.replace('<learner>', self.learner)).expanduser()
    if not isinstance(value, Default):
      return path
    return Path(self.run.run_dir or f'./runs/{self.helper.name}').expanduser() / path

  def stream_seed(self, phase: str) -> int:
    """Seed of a phase's order of samples: another for each phase and each run's seed."""
    return zlib.crc32(f'{self.run.seed}/{phase}'.encode()) % _MAX_SEED

  @functools.cached_property
  def layers(self) -> LayerChoice:
    """What each layer may lose.

    Raises:
      UserError: the file cannot be read.
    """
    return read_layers(self.run.layers)

  @functools.cached_property
  def bf16(self) -> bool:
    """Whether networks train in bfloat16: if asked for, and every process's machine computes in it."""
    run = self.run
    if not run.enbl_bf16 or run.force_bf16:
      return run.enbl_bf16
    return all(distributed.gather_objects(computes_bfloat16()))

  @property
  def wants_int8(self) -> bool:
    """Whether there is to be a full-integer file."""
    return self.run.wants_int8 or self.quantization.enbl_qat

  def in_training_precision(self, model: keras.Model) -> keras.Model:
    """The model as it is trained: a bfloat16 twin if asked for."""
    return with_policy(model, 'mixed_bfloat16') if self.bf16 else model

  def in_float32(self, model: keras.Model) -> keras.Model:
    """The model as it is measured and exported: bfloat16 is no format of TensorFlow Lite."""
    return with_policy(model, 'float32') if self.bf16 else model
