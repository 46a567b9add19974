"""The front door: flags -> configs -> learner -> exec_mode. The only reader of flags.

Flags are made from the config classes: the common ones, those of the entry script's network and data
set, and those of every learner with its prefix. A published method's settings stand in for the defaults
of the flags that were not given.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from absl import flags

from secateurs.utils import interrupts
from secateurs.utils.config import Config
from secateurs.utils.errors import UserError, told_in
from secateurs.utils.flag_values import apply_settings, define_flags, read_config

_MODES = ('train', 'eval', 'export', 'benchmark', 'verify', 'sensitivity')
_EXIT_USER_ERROR = 1
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130
# How long other processes than the chief wait before they print their error: if the chief prints the
# same one, or if a process has only lost another, the launcher ends them in the meantime.
_SECONDS_FOR_CHIEF = 4.0
_SECONDS_FOR_LOST = 15.0


def main(experiment: Callable[[], Any], argv: Sequence[str] | None = None) -> None:
  """Runs an entry script and exits with the process's code.

  Args:
    experiment: gives the `nets.model_helper.Experiment` to run.
    argv: command line; default: that of the process.
  """
  argv = _with_forced_bf16(list(sys.argv if argv is None else argv))
  debug = any(arg in ('--debug', '-debug', '--debug=true') for arg in argv)
  interrupts.arm()
  if _is_chief() and not {'-h', '--help', '-help'}.intersection(argv):
    print('Loading TensorFlow ...', flush=True)  # Which takes up to ten seconds.
  try:
    code = _run(experiment, argv)
    _leave_job()
  except KeyboardInterrupt:
    _complain('Interrupted: run the same command again to resume from the last checkpoint.')
    code = _EXIT_INTERRUPTED
  except flags.Error as error:
    _complain(_one_sentence(error))
    code = _EXIT_USAGE
  except UserError as error:
    if debug:
      traceback.print_exc()
    _complain(str(error))
    code = _EXIT_USER_ERROR
  except Exception as error:
    if debug:
      traceback.print_exc()
    reason = str(error).strip().splitlines()[0:1]
    if type(error).__name__ == 'LostPeerError':
      time.sleep(_SECONDS_FOR_LOST)
      _complain(str(error))
    else:
      _complain(
        str(told_in(error) or '')
        or f'{type(error).__name__}: {reason[0] if reason else "no reason given"} (this is not a '
        'mistake of yours that the program knows; --debug shows where it happened).'
      )
    code = _EXIT_USER_ERROR
  sys.stdout.flush()
  # Worker threads of TensorFlow may outlive an interrupted step; they must not delay the exit.
  os._exit(code)


def _with_forced_bf16(argv: list[str]) -> list[str]:
  """Spells `--enbl_bf16 force` as the two switches that it means."""
  found: list[str] = []
  for arg in argv:
    if arg in ('--enbl_bf16=force', '-enbl_bf16=force'):
      found += ['--enbl_bf16', '--force_bf16']
    elif arg == 'force' and found and found[-1] in ('--enbl_bf16', '-enbl_bf16'):
      found.append('--force_bf16')
    else:
      found.append(arg)
  return found


def _run(experiment: Callable[[], Any], argv: list[str]) -> int:
  import psutil

  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  from secateurs.learners import learners
  from secateurs.learners.channels.analysis import analyse
  from secateurs.learners.methods import METHODS, resolve
  from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
  from secateurs.utils.training import distributed

  spec = experiment()
  common = (RunConfig, TrainConfig, DistillConfig, QuantConfig, *spec.configs)
  values = flags.FlagValues()
  flags.DEFINE_string(
    'learner', 'full-prec', 'Which learner or published method.', flag_values=values
  )
  flags.DEFINE_enum('exec_mode', 'train', _MODES, 'What to do.', flag_values=values)
  flags.DEFINE_boolean(
    'dry_run',
    False,
    'Check everything that can be known and print the phases and an estimate of their time, without '
    'doing them.',
    flag_values=values,
  )
  flags.DEFINE_boolean('debug', False, 'Show tracebacks.', flag_values=values)
  flags.DEFINE_boolean('help', False, 'Show the flags.', short_name='h', flag_values=values)
  by_learner = {name: learner.Config for name, learner in learners().items()}
  for config_class in (*common, *by_learner.values()):
    define_flags(config_class, values)
  unparsed = values(argv)
  if values.help and not _is_chief():
    return 0
  if values.help:
    print(help_text(spec.name, common, by_learner, METHODS))
    return 0
  if len(unparsed) > 1:
    raise flags.Error(
      f'{unparsed[1]!r} is not a flag: flags are written --name value or --name=value.'
    )
  learner_class, method = resolve(values.learner)
  if method is not None:
    apply_settings(method.settings, learner_class.Config, values)
  _refuse_foreign(values, learner_class, by_learner)
  distributed.start()
  helper = spec.make(*(read_config(c, values) for c in spec.configs))
  learner = learner_class(
    helper,
    read_config(learner_class.Config, values),
    run=read_config(RunConfig, values),
    training=read_config(TrainConfig, values),
    distillation=read_config(DistillConfig, values),
    quantization=read_config(QuantConfig, values),
    method=None if method is None else method.name,
  )
  learner.began = psutil.Process().create_time()
  {
    'train': learner.dry_run if values.dry_run else learner.train,
    'eval': learner.evaluate,
    'export': learner.export,
    'benchmark': learner.benchmark,
    'verify': learner.verify,
    'sensitivity': lambda: analyse(learner),
  }[values.exec_mode]()
  return 0


def help_text(
  name: str,
  common: Sequence[type[Config]],
  by_learner: Mapping[str, type[Config]],
  methods: Collection[str],
) -> str:
  """All flags of an entry script with defaults, grouped by config class."""
  lines = [
    f'./scripts/run_local.sh nets/{name}_run.py --learner NAME [--exec_mode MODE] [flags]',
    f'  --learner: {", ".join(by_learner)} (default: full-prec), or a published method: '
    f'{", ".join(methods)}',
    f'  --exec_mode: {", ".join(_MODES)} (default: train)',
    '  --dry_run: check everything, print the phases and an estimate of their time, and do nothing',
    '  --debug: show tracebacks',
    '  --flagfile: a file of flags, one a line',
  ]
  groups = [(c.__doc__.splitlines()[0], c) for c in common]
  groups += [(f'Learner {learner}', c) for learner, c in by_learner.items()]
  for title, config_class in groups:
    lines += ['', title]
    for field in dataclasses.fields(config_class):
      default = '' if field.default is None else f' (default: {field.default})'
      lines.append(f'  --{config_class.flag_name(field)}: {field.metadata["help"]}{default}')
  return '\n'.join(lines)


def _refuse_foreign(
  values: flags.FlagValues, learner: type, by_learner: Mapping[str, type[Config]]
) -> None:
  """Refuses flags of other learners, because they do nothing.

  Raises:
    UserError: one was given.
  """
  own = {learner.Config.flag_name(field) for field in dataclasses.fields(learner.Config)}
  for name, config_class in by_learner.items():
    for field in dataclasses.fields(config_class) if config_class.prefix else ():
      flag = config_class.flag_name(field)
      if values[flag].present and flag not in own:
        raise UserError(
          f'--{flag} is a flag of learner {name} and has no effect on {learner.name}: leave it out, or '
          f'set --learner {name}.'
        )


def _one_sentence(error: Exception) -> str:
  text = ' '.join(str(error).split())
  return text if text.endswith(('.', '?')) else f'{text}.'


def _is_chief() -> bool:
  """Whether this process speaks for the job; it may not have joined it yet."""
  distributed = sys.modules.get('secateurs.utils.training.distributed')
  if distributed is None or 'HOROVOD_RANK' in os.environ:
    return os.environ.get('HOROVOD_RANK', '0') == '0'
  return distributed.is_chief()


def _leave_job() -> None:
  distributed = sys.modules.get('secateurs.utils.training.distributed')
  if distributed is not None:
    distributed.stop()


def _complain(text: str) -> None:
  if not _is_chief():
    time.sleep(_SECONDS_FOR_CHIEF)
  print(f'Error: {text}', file=sys.stderr, flush=True)
