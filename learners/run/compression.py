"""What all learners that compress share: the baseline before, the measuring after."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import tf_keras as keras

from secateurs.learners.run import zeros
from secateurs.learners.run.baseline import baseline_weights, has_baseline
from secateurs.learners.run.configs import FullPrecConfig
from secateurs.learners.run.console import say
from secateurs.learners.run.measured import MeasuredLearner
from secateurs.learners.run.phases import MEASURE, Phase
from secateurs.learners.run.preflight import work
from secateurs.learners.run.preflight.work import Work
from secateurs.learners.run.results import agreement, measuring
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training import batch_norms
from secateurs.learners.run.training.judging import judging_notes, majority_note
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.models import batch_norm
from secateurs.utils.training.models.weights import assign_weights, named_weights
from secateurs.utils.training.tasks.scores import Evaluation, Score


class SearchState(Protocol):
  """The part of a state that a search needs: whether trials of this run are on disk."""

  search_began: bool


class CompressionLearner(MeasuredLearner):
  """A learner that starts from a trained network.

  A subclass gives `compression_phases`, and where they apply `findings`, `prunable` and
  `compressed_model`.
  """

  baseline_config = FullPrecConfig()

  def compression_phases(self) -> list[Phase]:
    """The phases between the baseline and the measuring."""
    raise NotImplementedError

  def closing_phases(self) -> list[Phase]:
    """The phases after all training in float32, before the network is quantised and measured."""
    return []

  @property
  def keeps_all(self) -> str | None:
    """The flag that asks for nothing to go, as it is written: then the model stays as it is."""
    return None

  def findings(self) -> Findings:
    """What the learner adds to the report; a subclass extends this."""
    state = self.session.state
    notes = self._guess_notes()
    if state.batch_norms is not None and state.batch_norms.taken:
      notes.append(batch_norms.note(state.batch_norms, Score(**state.original['score'])))
    if state.pieces:
      phases = ', '.join(f'{name} {number}' for name, number in state.pieces.items())
      notes.append(
        f'Batches were run in pieces, to keep to --max_memory_mb ({phases}); batch normalisation takes '
        'its statistics over each.'
      )
    if (note := self.rates.short_note()) is not None:
      notes.append(note)
    if state.input_zeros:
      notes.append(zeros.note(state.input_zeros, self.compressed_model(), self.settings))
    known = state.batch_norms
    extra = {} if known is None else {'batch_norm': dataclasses.asdict(known)}
    if self.helper.unlabelled:
      value = agreement.divergence(self.settings, self.original_model(), self.compressed_model())
      notes.append(agreement.note(self.settings, value))
      extra['divergence_from_original'] = value
    return Findings(notes=notes, extra=extra)

  def phases(self) -> list[Phase]:
    """Baseline, compression, measuring."""
    if self.keeps_all is not None:
      return [
        Phase('baseline', self._baseline, self._baseline_steps()),
        Phase('keep', lambda: say(self.nothing_note), title='leave the network as it is'),
        *self.quantization_phases(),
        self.measure_phase(),
      ]
    return [
      Phase('baseline', self._baseline, self._baseline_steps()),
      *self.compression_phases(),
      *self._batch_norm_phases(),
      *self.closing_phases(),
      *self.quantization_phases(),
      self.measure_phase(),
    ]

  def work_of(self, phase: str) -> Work:
    """Measuring before and after, and batch normalisation."""
    if phase == 'baseline':
      return work.of_original(self.settings)
    if phase == batch_norms.PHASE:
      return Work(batch_norms.nb_images(self.helper))
    if phase == MEASURE:
      return work.of_result(self.settings, sparse=self.leaves_zeros, originals=True)
    return super().work_of(phase)

  @property
  def nothing_note(self) -> str:
    """That nothing goes, in one sentence."""
    return f'{self.keeps_all} removes nothing: the model is the baseline, bit by bit.'

  def baseline_file(self) -> Path:
    """The original network."""
    return self.files.original_keras

  def original_model(self) -> keras.Model:
    """The float32 network before compression, from its file or else from the baseline's weights."""
    if distributed.from_chief(self.files.original_keras.is_file):
      return super().original_model()
    model = self.helper.build_model(self.settings.run.seed)
    assign_weights(named_weights(model), *baseline_weights(self.settings, self.baseline_config))
    return model

  @property
  def keeps_zeros(self) -> bool:
    """Whether the network that was given has zeros that stay."""
    return self.settings.training.keep_zeros and self.session.state.input_zeros > 0

  @property
  def last_steps(self) -> int:
    """Those of `fine_tune_steps`, unless the network stays as it is; a subclass may have others."""
    return 0 if self.keeps_all is not None else self.rates.fine_tune_steps()

  @property
  def augmentation(self) -> str:
    """Augmentation policy of training after the baseline."""
    return self.settings.training.augment_ft

  @property
  def sample_augmentation(self) -> str:
    """Augmentation of images that sums and feature maps are taken of: mirroring at most.

    What is fit to them is used on images that are neither shifted nor cropped.
    """
    return 'none' if self.augmentation == 'none' else 'mirror'

  # Batch norm.

  def _batch_norm_phases(self) -> list[Phase]:
    if not self.settings.training.bn_reestimate:
      return []
    if self.model is not None and not batch_norm.batch_norms(self.model):
      return []
    return [Phase(batch_norms.PHASE, self._reestimate)]

  def _reestimate(self) -> None:
    self.session.state.batch_norms = batch_norms.reestimate_where_better(
      self.settings, self.model, self.rates.batch_size
    )

  # Searches.

  def search_file(self, state: SearchState) -> Path:
    """The file of this run's search; what another run left there is removed when the search begins.

    Args:
      state: remembers that it has begun.
    """
    path = self.files.trials
    if not state.search_began:
      distributed.from_chief(lambda: path.unlink(missing_ok=True))
      state.search_began = True
      self.save_search()
    return path

  def say_judging(self) -> None:
    """Says on which samples the search or scan that begins will judge, where that matters."""
    for note in judging_notes(self.helper):
      say(note)

  def save_search(self) -> None:
    """Writes a checkpoint in the middle of a search, whose trials are in a separate file."""
    self.save('search', 0)

  # The baseline.

  def _baseline(self) -> None:
    self._check_augmentation()
    values, source = baseline_weights(self.settings, self.baseline_config)
    assign_weights(named_weights(self.model), values, source)
    say(f'Baseline: {source}')
    self.session.state.input_zeros = zeros.zero_fraction(self.model)
    model = self.settings.in_float32(self.model)
    measured = measuring.measure(
      model, self.settings, self.files.original_prefix, self.prunable(model), reuse=True
    )
    self.session.state.original = measured.block
    say(f'Baseline {Score(**measured.block["score"])}')
    for note in (*self._guess_notes(), self.rates.short_note()):
      if note is not None:
        say(f'Warning: {note}')

  def _baseline_steps(self) -> int:
    """Steps of the baseline's training, where it has to be trained."""
    trained = has_baseline(self.settings, self.baseline_config)
    return 0 if trained else self.rates.baseline_steps()

  def _check_augmentation(self) -> None:
    wanted = self.settings.training.augment_ft
    if wanted != 'all' and not self.helper.dataset.augments:
      raise UserError(
        f'--augment_ft {wanted} was asked for, but images of your own pipeline come as you augmented '
        'them: set --augment_ft all, and give less augmented images.'
      )

  def _guess_notes(self) -> list[str]:
    """A sentence where the baseline is no better than guessing."""
    block = self.session.state.original
    found = Evaluation(Score(**block['score']), block['loss'], self.helper.nb_samples('eval'))
    notes = self.helper.task.guess_note(found), majority_note(self.helper, found)
    return [note for note in notes if note is not None][:1]


def extended(
  findings: Findings, notes: list[str], *, extra: dict[str, Any] | None = None, **changes: object
) -> Findings:
  """Findings with notes put before those that there are, further figures, and other fields replaced."""
  return dataclasses.replace(
    findings,
    notes=[*notes, *findings.notes],
    extra={**findings.extra, **(extra or {})},
    **changes,
  )
