"""What all learners that compress share: the baseline before, the measuring behind."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import measuring, reporting
from secateurs.learners.abstract_learner import Learner, Phase
from secateurs.learners.configs import DistillConfig, FullPrecConfig, TrainConfig
from secateurs.learners.distillation import classification
from secateurs.learners.full_precision import TRAIN, FullPrecLearner
from secateurs.learners.judging import judging_notes
from secateurs.utils.errors import UserError
from secateurs.utils.graph import count
from secateurs.utils.training import distributed
from secateurs.utils.training.checkpoints import CheckpointStore
from secateurs.utils.training.masks import Masks
from secateurs.utils.training.muon import Muon
from secateurs.utils.training.objectives import Classification
from secateurs.utils.training.schedules import Cosine
from secateurs.utils.training.weights import (
  assign_weights,
  load_model,
  named_weights,
)

_OF_FINE_TUNING = ('nb_epochs_ft', 'lrn_rate_ft', 'optimizer_ft', 'lrn_rate_muon', 'augment_ft')


class CompressionLearner(Learner):
  """A learner that starts from a trained network.

  The baseline's weights come from --warm_start_path, else from the full-precision run at
  --save_path, which is trained first where it does not exist. A subclass gives
  `compression_phases`, and `compressed_model` where it differs from the model that was trained.
  """

  baseline_config = FullPrecConfig()
  fine_tune_factor: ClassVar[float] = 0.1  # Default peak rate, as a share of lrn_rate_init.

  leaves_zeros: ClassVar[bool] = False  # Whether a file that leaves zeros out is worth its while.

  def compression_phases(self) -> list[Phase]:
    """The phases between the baseline and the measuring."""
    raise NotImplementedError

  def prunable(self, model: keras.Model) -> dict[str, tf.Variable]:
    """The kernels over which the report tells sparsity, by name."""
    return measuring.prunable_kernels(model)

  def pruned_block(self) -> dict[str, Any] | None:
    """Block of the model before its final fine-tuning, where there is such a moment."""
    return None

  def requested(self) -> dict[str, Any]:
    """What the flags asked for, to be shown beside what was achieved."""
    return {}

  def reached(self) -> dict[str, float]:
    """What of this was achieved, where the models' sizes and zeros do not tell."""
    return {}

  def notes(self) -> list[str]:
    """Sentences that the reader of the report must not miss."""
    return []

  def parity(self) -> dict[str, float]:
    """Differences between models that the learner has measured itself, for the report."""
    return {}

  def extra(self) -> dict[str, Any]:
    """What else of the algorithm belongs into the report."""
    return {}

  def phases(self) -> list[Phase]:
    """Baseline, compression, measuring."""
    return [
      Phase('baseline', self._baseline),
      *self.compression_phases(),
      *self.quantization_phases(),
      Phase('measure', self._measure),
    ]

  @property
  def original_prefix(self) -> Path:
    """Start of the names of the original network's exported files."""
    return self.save_path.with_name('original')

  @property
  def original_keras(self) -> Path:
    """The original network."""
    return self.original_prefix.with_name('original.keras')

  def classification(self, model: keras.Model | None = None) -> Classification:
    """The objective of fine-tuning a model (default: the run's), with distillation if asked for."""
    return classification(self, self.original_keras, model)

  @property
  def augmentation(self) -> str:
    """What may happen to training images behind the baseline."""
    return self.train_config.augment_ft

  @property
  def sample_augmentation(self) -> str:
    """What may happen to images that sums and feature maps are taken of: mirroring at most.

    What is fit to them is used on images that are neither shifted nor cropped.
    """
    return 'none' if self.augmentation == 'none' else 'mirror'

  def trials_path(self) -> Path:
    """The file of this run's search; what another run left there is removed first."""
    state, path = self.state['algorithm'], self.save_path.with_name('search.jsonl')
    if not state.get('search_began'):
      distributed.from_chief(lambda: path.unlink(missing_ok=True))
      state['search_began'] = True
      self.save_search()
    return path

  def say_judging(self) -> None:
    """Tells on which samples the search or scan that begins will judge, where that matters."""
    for note in judging_notes(self.helper):
      self.say(note)

  def save_search(self) -> None:
    """Writes a checkpoint in the middle of a search, whose trials are in a file of their own."""
    self.save('search', 0)

  def fine_tune_steps(self) -> int:
    """Steps of the compression's training."""
    config = self.train_config
    epochs = config.nb_epochs_ft
    return self.nb_steps(
      self.helper.recipe.nb_epochs * config.nb_epochs_rat if epochs is None else epochs
    )

  def fine_tune_optimizer(
    self, nb_steps: int, masks: Masks | None = None, peak: float | None = None
  ) -> keras.optimizers.Optimizer:
    """The optimizer of the compression's training: its rate is half a cosine down to zero.

    Muon's steps don't shrink as a greater batch evens out gradients, so that its rate grows with the
    root of the batch only.

    Args:
      nb_steps: steps of the training.
      masks: those that it keeps.
      peak: the highest rate; default: `fine_tune_rate`.
    """
    config = self.train_config
    peak = self.fine_tune_rate() if peak is None else peak
    schedule = self.warmed_up(Cosine(peak, nb_steps), nb_steps)
    if config.optimizer_ft == 'sgd':
      return self.sgd(schedule)
    growth = math.sqrt(self.batch_size_total / self.helper.recipe.batch_size)
    factor = growth * config.lrn_rate_muon / peak if peak else 0.0
    return Muon(schedule, kernel_factor=factor, momentum=self.momentum, masks=masks)

  def fine_tune_rate(self) -> float:
    """Peak rate of the compression's training, for this run's batch size.

    With distillation the default is divided by sqrt(1 + loss_w_dst): the teacher's gradient comes on
    top of the labels', and a rate that suits the labels alone makes training diverge.
    """
    given = self.train_config.lrn_rate_ft
    if given is not None:
      return self.scaled_rate(given)
    peak = self.lrn_rate_init * self.fine_tune_factor
    if self.distill_config.enbl_dst:
      peak /= math.sqrt(1.0 + self.distill_config.loss_w_dst)
    return peak

  def _baseline(self) -> None:
    self._check_augmentation()
    values, source = self._baseline_weights()
    assign_weights(named_weights(self.model), values, source)
    self.say(f'Baseline: {source}')
    model = self.in_float32(self.model)
    measured = measuring.measure(
      model, self.helper, self.run_config, self.original_prefix, self.prunable(model)
    )
    self.state['original'] = measured.block
    self.say(f'Baseline accuracy {100 * measured.block["accuracy"]:.2f} %')
    for note in self._chance_notes():
      self.say(f'Warning: {note}')

  def _check_augmentation(self) -> None:
    wanted = self.train_config.augment_ft
    if wanted != 'all' and not self.helper.dataset.augments:
      raise UserError(
        f'--augment_ft {wanted} was asked for, but images of your own pipeline come as you augmented '
        'them: leave the flag at all, and hand over less augmented ones.'
      )

  def _chance_notes(self) -> list[str]:
    """A sentence where the baseline is no better than guessing, within three standard errors."""
    chance = 1 / self.helper.dataset.nb_classes
    noise = math.sqrt(chance * (1 - chance) / max(self.helper.nb_samples('eval'), 1))
    accuracy = self.state['original']['accuracy']
    if accuracy > chance + 3 * noise:
      return []
    return [
      f'The baseline guesses: its accuracy of {100 * accuracy:.2f} % is that of chance among '
      f'{self.helper.dataset.nb_classes} classes; are the weights trained, the classes in the order of '
      'the training, and the pixels normalised as then (--preprocess, where there is that flag)?'
    ]

  def _baseline_weights(self) -> tuple[dict[str, np.ndarray], str]:
    run = self.run_config
    if run.warm_start_path:
      return self.read_weights(run.warm_start_path), run.warm_start_path
    given = self.helper.given_weights()
    if given is not None:
      return given, f'the weights that {self.helper.net} came with'
    path = self.path(self.baseline_config, 'save_path')
    saved = CheckpointStore(path).latest()
    if saved is not None and TRAIN in saved.state.get('done', ()):
      self._check_same_network(saved.state['identity'], path)
      return saved.values('model'), str(saved.prefix)
    if run.enbl_warm_start:
      raise UserError(
        f'--enbl_warm_start needs trained weights, but no finished run lies at {path}: give '
        '--warm_start_path, or leave the flag out to have the baseline trained.'
      )
    self.say(f'There is no trained {self.helper.net} at {path}: training the baseline first.')
    baseline = FullPrecLearner(
      self.helper,
      self.baseline_config,
      run=run,
      training=self._baseline_training(),
      distillation=DistillConfig(),
    )
    model = baseline.trained_model()
    return {n: w.numpy() for n, w in named_weights(model).items()}, str(path)

  def _baseline_training(self) -> TrainConfig:
    """The training config without what says how compression trains: any such run may share it."""
    fields = [field for field in dataclasses.fields(TrainConfig) if field.name in _OF_FINE_TUNING]
    return dataclasses.replace(self.train_config, **{f.name: f.default for f in fields})

  def _check_same_network(self, identity: dict[str, Any], path: Path) -> None:
    expected = {'net': self.helper.net, 'dataset': self.helper.dataset.name}
    found = {key: identity.get(key) for key in expected}
    if found != expected:
      raise UserError(
        f'{path} holds a {found["net"]} trained on {found["dataset"]}, but a {expected["net"]} on '
        f'{expected["dataset"]} was expected: give another --save_path or --run_dir.'
      )
    # How many images are used may differ, what the network and its images are may not.
    for config in self.helper.configs:
      for name, value in config.as_flags(affecting_result=True).items():
        if not name.startswith('nb_smpls_') and identity.get(f'--{name}') != value:
          raise UserError(
            f'{path} holds a baseline trained with --{name} {identity.get(f"--{name}")}, but now it is '
            f'{value}: give the same value, or another --save_path or --run_dir.'
          )

  def _measure(self) -> None:
    model = self.compressed_model()
    measured = measuring.measure(
      model,
      self.helper,
      self.run_config,
      self.save_path_eval,
      self.prunable(model),
      sparse=self.leaves_zeros,
      quantized=self.quantized,
      post_training_accuracy=self.state.get('post_training_accuracy'),
    )
    blocks = {'original': self.state['original'], 'compressed': measured.block}
    prefixes = {'original': self.original_prefix, 'compressed': self.save_path_eval}
    measuring.add_latency(blocks, prefixes, self.run_config)
    self.state['report'] = reporting.build_report(
      self,
      original=blocks['original'],
      pruned=self.pruned_block(),
      compressed=measured.block,
      counts=(count(load_model(self.original_keras)), count(model)),
      layer_sparsities=measuring.layer_sparsities(model),
      parity=measured.export.parity_figures() | self.parity(),
      requested=self.requested(),
      reached=self.reached(),
      notes=[*self.notes(), *self._chance_notes()],
      extra=self.extra(),
    )
