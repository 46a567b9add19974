"""What tells a run from others: a run that goes on, and all processes of a job, must agree in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secateurs.utils.deploy import versions
from secateurs.utils.errors import UserError
from secateurs.utils.provenance import code_checksum
from secateurs.utils.training import distributed
from secateurs.utils.training.checkpoints import Saved

if TYPE_CHECKING:
  from secateurs.learners.abstract_learner import Learner


def flags(learner: Learner, *, affecting_result: bool = False) -> dict[str, Any]:
  """Flag names and values of all configs; only those that change the result if asked."""
  shared = (
    learner.run_config,
    learner.train_config,
    learner.distill_config,
    learner.quant_config,
  )
  found: dict[str, Any] = {}
  for config in (*learner.helper.configs, learner.config, *shared):
    found |= config.as_flags(affecting_result=affecting_result)
  return found


def identity(learner: Learner) -> dict[str, Any]:
  """What must be the same for a run to be resumed: the network, the data, and most flags."""
  helper = learner.helper
  workers = {'-n': distributed.size()} if distributed.size() > 1 else {}
  return {
    'learner': learner.name,
    'net': helper.net,
    'dataset': helper.dataset.name,
    'samples': {split: helper.nb_samples(split) for split in ('train', 'val', 'eval')},
    **helper.identity(),
    **workers,
    **{f'--{name}': value for name, value in flags(learner, affecting_result=True).items()},
  }


def require_same_run(learner: Learner, saved: Saved) -> None:
  """Checks that a checkpoint is one of the learner's run.

  Raises:
    UserError: it is not.
  """
  then, now = saved.state.get('identity', {}), identity(learner)
  differing = [
    f'{key} {then.get(key, "not given")}, now {now.get(key, "not given")}'
    for key in {**then, **now}
    if then.get(key) != now.get(key)
  ]
  if differing:
    raise UserError(
      f'{saved.prefix} is a checkpoint of another run ({"; ".join(differing[:6])}): give '
      'the flags of that run to go on with it, or another --run_dir to start a new one.'
    )


def require_agreement(learner: Learner) -> None:
  """Checks that all processes of the job are about to do the same.

  Raises:
    UserError: they differ in flags, code or libraries, or there should be several but is one.
  """
  if learner.run_config.enbl_multi_gpu and distributed.size() == 1:
    raise UserError(
      '--enbl_multi_gpu asks for several processes, but this is the only one: start it with -n=2 '
      'or more, as in ./scripts/run_local.sh nets/<net>_at_<data set>_run.py -n=2.'
    )
  if distributed.size() > 1:
    given = {f'--{name}': value for name, value in flags(learner).items()}
    libraries = {name: v for name, v in versions(['horovod']).items() if name != 'platform'}
    code = {'code checksum': code_checksum()}
    distributed.require_agreement({**identity(learner), **given, **libraries, **code})
