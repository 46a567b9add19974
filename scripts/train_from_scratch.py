"""Trains a slim architecture from random weights, to measure the value of the pruned weights.

Usage: python scripts/train_from_scratch.py nets/<net>_at_<data set>_run.py --scratch_model SLIM.keras
  [--scratch_budget epochs|macs] --nb_epochs_ft 6 [common flags]

With `--scratch_start trained` and no model it trains the network itself on, from its weights and as a
pruned one is fine-tuned: what the epochs alone are worth.

Liu et al. 2019, "Rethinking the Value of Network Pruning" (arXiv:1810.05270), section 3: Scratch-E
trains for the same number of epochs as the compared training, Scratch-B for the same number of
multiply-adds. Deviation: the paper compares with the training of the large network; here the budget is
the fine-tuning of the slim network (`--nb_epochs_ft`), which all methods on one page have in common.
Learning rates start at the recipe's --lrn_rate_init. Data, resuming and the report are those of every
learner; the original is the network before pruning.
"""

from __future__ import annotations

import dataclasses
import sys

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import tf_keras as keras  # noqa: E402

from secateurs.learners import cli, register  # noqa: E402
from secateurs.learners.run.compression import CompressionLearner, extended  # noqa: E402
from secateurs.learners.run.phases import Phase  # noqa: E402
from secateurs.learners.run.results.reporting import Findings  # noqa: E402
from secateurs.nets.experiments import experiment_of  # noqa: E402
from secateurs.utils.config import Config, option  # noqa: E402
from secateurs.utils.errors import UserError  # noqa: E402
from secateurs.utils.graph import count  # noqa: E402
from secateurs.utils.training.engine.schedules import Cosine  # noqa: E402
from secateurs.utils.training.models.weights import load_model  # noqa: E402


@dataclasses.dataclass(frozen=True)
class ScratchConfig(Config):
  """Hyper-parameters of `scratch`."""

  prefix = 'scratch_'

  save_path: str = option('./models_scratch/model.ckpt', 'Checkpoints.', affects_result=False)
  save_path_eval: str = option(
    './models_scratch_eval/model', 'Exported files.', affects_result=False
  )
  model: str | None = option(None, 'File of the slim model, whose architecture is trained.')
  of: str | None = option(None, 'Learner that made the slim model; a name for comparisons.')
  budget: str = option(
    'epochs',
    'Length of the training: epochs (nb_epochs_ft epochs) or macs (the multiply-adds of nb_epochs_ft '
    'epochs of the original network).',
    choices=('epochs', 'macs'),
    used_with={'start': 'random'},
  )
  start: str = option(
    'random',
    'Weights at the start: random, or trained (those of the original network, whose architecture is '
    'kept).',
    choices=('random', 'trained'),
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.start == 'trained' and self.model is not None:
      raise UserError(
        f'--scratch_start trained trains the original network, but --scratch_model {self.model} was '
        'given: leave one of the two out.'
      )


@register
class ScratchLearner(CompressionLearner):
  """Trains the architecture of a slim model from random weights."""

  name = 'scratch'
  Config = ScratchConfig

  def compression_phases(self) -> list[Phase]:
    """Phases: new random weights, training; or training alone."""
    if self.config.start == 'trained':
      return [Phase('train', self._train_on)]
    return [Phase('renew', self._renew), Phase('train', self._train)]

  def build(self) -> keras.Model:
    """The slim architecture with new weights, after the baseline."""
    trained = self.config.start == 'trained'
    if trained or self.session is None or not self.session.is_done('renew'):
      return super().build()
    return self._renewed()

  def _renewed(self) -> keras.Model:
    if not self.config.model:
      raise UserError('No slim model was named: give --scratch_model FILE.keras.')
    slim = self.helper.task.trained(load_model(self.config.model))
    keras.utils.set_random_seed(self.settings.run.seed)
    return keras.models.clone_model(slim)

  def _renew(self) -> None:
    self.model = self.settings.in_training_precision(self._renewed())

  def _train(self) -> None:
    nb_steps = self.rates.fine_tune_steps()
    if self.config.budget == 'macs':
      original = count(load_model(self.files.original_keras)).macs
      nb_steps = round(nb_steps * original / count(self.settings.in_float32(self.model)).macs)
    schedule = self.rates.warmed_up(Cosine(self.rates.lrn_rate_init, nb_steps), nb_steps)
    self.fit('train', self.objective(), self.rates.sgd(schedule), nb_steps=nb_steps)

  def _train_on(self) -> None:
    nb_steps = self.rates.fine_tune_steps()
    self.fit('train', self.objective(), self.rates.fine_tune_optimizer(nb_steps), nb_steps=nb_steps)

  def findings(self) -> Findings:
    """The budget that was asked for."""
    config = self.config
    asked = {'start': 'trained'} if config.start == 'trained' else {'budget': config.budget}
    return extended(super().findings(), [], requested=asked)


if __name__ == '__main__':
  if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
    sys.exit(__doc__)
  cli.main(lambda: experiment_of(sys.argv[1]), [sys.argv[0], '--learner', 'scratch', *sys.argv[2:]])
