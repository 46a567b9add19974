"""What makes a learner: its phases, what they need to resume, and what is checked before them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.preflight import checks, estimate
from secateurs.learners.run.preflight.budget import Budget
from secateurs.learners.run.preflight.estimate import Need
from secateurs.learners.run.preflight.work import Work
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.state import LearnerState
from secateurs.learners.run.training.rates import Rates
from secateurs.utils.config import Config
from secateurs.utils.graph.counts.memory import MapBytes, map_bytes
from secateurs.utils.graph.flat.walk import flatten_model

_NO_CUTS = 'leave it out, or choose weight-sparse or a learner of channels, such as chn-pruned'


class Algorithm:
  """What a learner's class gives to `Learner`, which runs it.

  A subclass gives `name`, `Config` and `phases` and, where these need more than the model's weights to
  resume, `State`, `prepare`, `extra_variables` and `networks`.
  """

  name: ClassVar[str]
  aliases: ClassVar[tuple[str, ...]] = ()
  Config: ClassVar[type[Config]]
  State: ClassVar[type[LearnerState]] = LearnerState
  fine_tune_factor: ClassVar[float] = 0.1  # Default peak rate, as a fraction of lrn_rate_init.
  is_original: ClassVar[bool] = False  # Whether the network is its own original.
  # Fields of RunConfig that the learner does nothing with, each with what to do instead of setting it.
  without_effect: ClassVar[Mapping[str, str]] = dict.fromkeys(('layers', 'plan'), _NO_CUTS)

  # What `Learner` has made before any of these is called.
  settings: Settings
  helper: Helper
  files: RunFiles
  rates: Rates
  budget: Budget
  model: keras.Model | None

  def phases(self) -> list[Phase]:
    """The steps of the run, in order."""
    raise NotImplementedError

  def work_of(self, phase: str) -> Work:
    """What a phase does beside training steps, as far as that is known; a subclass extends this."""
    return Work()

  def build(self) -> keras.Model:
    """The network that a checkpoint's weights fit, given `state`."""
    return self.helper.build_model(self.settings.run.seed)

  def prepare(self) -> None:
    """Makes what `extra_variables` gives; runs once, when there is a model but no phase has run."""

  def preflight(self) -> list[checks.Check]:
    """What is checked before all work; a subclass extends this."""
    return [
      lambda: checks.require_batch(self.settings),
      lambda: checks.require_precision(self.settings),
      lambda: checks.require_averages(self.settings, self.last_steps),
      lambda: checks.require_disk(self.model, self.files),
      lambda: checks.require_teacher(self.settings, self.model),
      lambda: estimate.require_fit(self.memory_needs(), self.budget.limit, self.asked_limit),
    ]

  @property
  def asked_limit(self) -> bool:
    """Whether the user set the limit of memory."""
    return self.settings.run.max_memory_mb is not None

  def memory_needs(self) -> list[Need]:
    """What the kinds of work of a run take; a subclass extends this."""
    teacher = self.settings.distillation.enbl_dst
    maps = self.training_maps()
    # About: it may be another network.
    also, held = (maps.inference, self.budget.weights) if teacher else (0, 0)
    held += self.budget.weights if self.settings.training.average_ft != 'none' else 0
    return [estimate.of_training(self.budget, maps, self.rates.batch_size, also, held)]

  def training_maps(self) -> MapBytes:
    """Feature maps of the network that training steps run."""
    return map_bytes(flatten_model(self.model))

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Variables beside the networks' and the optimizer's that a checkpoint must hold."""
    return {}

  def networks(self) -> Mapping[str, keras.Model]:
    """Networks beside the model that a checkpoint must hold, by the name of their group."""
    return {}

  def outdated_phases(self) -> list[str]:
    """Finished phases whose results flags or deleted files make incomplete: they are run again."""
    return []

  def prepare_networks(self) -> None:
    """Makes what `networks` gives again, from the restored model, when a run is resumed."""

  def baseline_file(self) -> Path | None:
    """The .keras file of the network before compression, the teacher if there is no other."""
    return None

  @property
  def last_steps(self) -> int:
    """Steps of compression's last training in float32, which --average_ft is about; 0 without one."""
    return 0

  @property
  def augmentation(self) -> str:
    """Augmentation policy of training: 'all', 'mirror' or 'none'."""
    return 'all'
