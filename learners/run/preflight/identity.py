"""What distinguishes a run from others: a resumed run, and all processes of a job, must agree in it."""

from __future__ import annotations

from typing import Any

from secateurs.learners.run.configs import FULL_PREC, OF_FINE_TUNING
from secateurs.learners.run.settings import Settings
from secateurs.utils.deploy import versions
from secateurs.utils.errors import UserError
from secateurs.utils.provenance import code_checksum
from secateurs.utils.training import distributed

_NB_LISTED = 6
_OF_A_MACHINE = ('platform', 'processor')  # Hosts of a job may differ in these.


def identity(settings: Settings) -> dict[str, Any]:
  """What must be the same for a run to be resumed: the network, the data, and most flags."""
  helper = settings.helper
  # A network that is trained as it is may be the baseline of any compression.
  unused = set(OF_FINE_TUNING) if settings.learner == FULL_PREC else set()
  # Training in 8 bits follows everything else: it can be added to a run, changed, or given up.
  unused |= set(settings.quantization.as_flags())
  workers = {'-n': distributed.size()} if distributed.size() > 1 else {}
  return {
    'learner': settings.learner,
    'net': helper.net,
    'dataset': helper.dataset.name,
    'samples': {split: helper.nb_samples(split) for split in ('train', 'val', 'eval')},
    **helper.identity(),
    **workers,
    **({} if settings.run.layers is None else {'--layers': settings.layers.text()}),
    **{
      f'--{name}': value
      for name, value in settings.flags(affecting_result=True).items()
      if name not in unused
    },
  }


def differences(then: dict[str, Any], settings: Settings) -> list[str]:
  """What a run differs in from the one that wrote a checkpoint, in words.

  A flag that the checkpoint does not know came with a later version of the project: it may have its
  default value.

  Args:
    then: the identity in the checkpoint.
    settings: those of now.
  """
  now = identity(settings)
  usual = {f'--{name}': value for name, value in settings.default_flags().items()}
  later = {key for key in usual if key not in then and now.get(key) == usual[key]}
  return [
    f'{key} {then.get(key, "not given")}, now {now.get(key, "not given")}'
    for key in {**then, **now}
    if then.get(key) != now.get(key) and key not in later
  ]


def require_same_run(then: dict[str, Any], settings: Settings, where: str) -> None:
  """Checks that a checkpoint is one of this run.

  Args:
    then: the identity in the checkpoint.
    settings: those of now.
    where: the checkpoint's name, for the message.

  Raises:
    UserError: it belongs to another run.
  """
  found = differences(then, settings)
  if found:
    raise UserError(
      f'{where} is a checkpoint of another run ({"; ".join(found[:_NB_LISTED])}): give the flags '
      f'of that run to resume it, {_way_to_restart(settings)}or another --run_dir to start a new one.'
    )


def _way_to_restart(settings: Settings) -> str:
  if settings.learner == FULL_PREC:
    return ''
  return '--restart compression to compress again from the same baseline, '


def require_agreement(settings: Settings) -> None:
  """Checks that all processes of the job are about to do the same.

  Raises:
    UserError: they differ in flags, code or libraries, or there should be several but is one.
  """
  if settings.run.enbl_multi_gpu and distributed.size() == 1:
    raise UserError(
      '--enbl_multi_gpu asks for several processes, but this is the only one: start it with -n=2 '
      'or more, as in ./scripts/run_local.sh nets/<net>_at_<data set>_run.py -n=2.'
    )
  if distributed.size() > 1:
    given = {f'--{name}': value for name, value in settings.flags().items()}
    libraries = {n: v for n, v in versions(['horovod']).items() if n not in _OF_A_MACHINE}
    code = {'code checksum': code_checksum()}
    distributed.require_agreement({**identity(settings), **given, **libraries, **code})
