"""Where the weights come from that a learner compresses: given, found, or trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.learners.run import state
from secateurs.learners.run.configs import OF_FINE_TUNING, FullPrecConfig, TrainConfig
from secateurs.learners.run.console import say
from secateurs.learners.run.full_training import TRAIN, FullTraining
from secateurs.learners.run.given import came_trained, given_weights
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.state import LearnerState
from secateurs.utils.errors import UserError
from secateurs.utils.training.models.checkpoints import CheckpointStore
from secateurs.utils.training.models.weights import named_weights


def baseline_weights(
  settings: Settings, config: FullPrecConfig
) -> tuple[dict[str, np.ndarray], str]:
  """Trained weights by name, and where they come from.

  They are those that the user gave, else those of the full-precision run at `config.save_path`,
  which is trained first where it does not exist.

  Raises:
    UserError: that run is of another network or data set, or --enbl_warm_start forbids to train.
  """
  given = given_weights(settings)
  if given is not None:
    return given
  helper, path = settings.helper, settings.path(config, 'save_path')
  saved = CheckpointStore(path).latest()
  if saved is not None:
    found = state.from_checkpoint(saved, LearnerState)
    if TRAIN in found.done:
      _check_same_network(found.identity, helper, path)
      return saved.values('model'), str(saved.prefix)
  if settings.run.enbl_warm_start:
    raise UserError(
      f'--enbl_warm_start needs trained weights, but there is no finished run at {path}: give '
      '--warm_start_path, or leave the flag out to have the baseline trained.'
    )
  say(f'There is no trained {helper.net} at {path}: training the baseline first.')
  run = dataclasses.replace(settings.run, layers=None, plan=None)
  baseline = FullTraining(helper, config, run=run, training=_baseline_training(settings.training))
  model = baseline.trained_model()
  return {n: w.numpy() for n, w in named_weights(model).items()}, str(path)


def has_baseline(settings: Settings, config: FullPrecConfig) -> bool:
  """Whether there are trained weights: given, or of a finished full-precision run."""
  if came_trained(settings.helper, settings.run):
    return True
  saved = CheckpointStore(settings.path(config, 'save_path')).latest()
  return saved is not None and TRAIN in saved.state.get('done', ())


def _baseline_training(config: TrainConfig) -> TrainConfig:
  """The config without what says how compression trains: any such run may share the baseline."""
  fields = [field for field in dataclasses.fields(TrainConfig) if field.name in OF_FINE_TUNING]
  return dataclasses.replace(config, **{f.name: f.default for f in fields})


def _check_same_network(identity: dict[str, Any], helper: Helper, path: Path) -> None:
  expected = {'net': helper.net, 'dataset': helper.dataset.name}
  found = {key: identity.get(key) for key in expected}
  if found != expected:
    raise UserError(
      f'{path} holds a {found["net"]} trained on {found["dataset"]}, but a {expected["net"]} on '
      f'{expected["dataset"]} was expected: give another --save_path or --run_dir.'
    )
  # How many images are used may differ, what the network and its images are may not.
  for config in helper.configs:
    for name, value in config.as_flags(affecting_result=True).items():
      if not name.startswith('nb_smpls_') and identity.get(f'--{name}') != value:
        raise UserError(
          f'{path} holds a baseline trained with --{name} {identity.get(f"--{name}")}, but now it is '
          f'{value}: give the same value, or another --save_path or --run_dir.'
        )
