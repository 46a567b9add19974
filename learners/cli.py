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
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from absl import flags

from secateurs.utils import interrupts
from secateurs.utils.config import Config
from secateurs.utils.errors import UserError, told_in

_MODES = ('train', 'eval', 'export', 'benchmark', 'verify')
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
  argv = list(sys.argv if argv is None else argv)
  debug = any(arg in ('--debug', '-debug', '--debug=true') for arg in argv)
  interrupts.arm()
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


def _run(experiment: Callable[[], Any], argv: list[str]) -> int:
  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  from secateurs.learners import learners
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
    apply_settings(method.settings, values)
  distributed.start()
  if distributed.is_chief():
    _warn_of_unused(values, learner_class.Config, by_learner)
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
  {
    'train': learner.train,
    'eval': learner.evaluate,
    'export': learner.export,
    'benchmark': learner.benchmark,
    'verify': learner.verify,
  }[values.exec_mode]()
  return 0


def define_flags(config_class: type[Config], values: flags.FlagValues) -> None:
  """Defines one flag per field of a config class; a name that is taken raises."""
  hints = typing.get_type_hints(config_class)
  for field in dataclasses.fields(config_class):
    name, help_ = config_class.flag_name(field), field.metadata['help']
    kinds = [k for k in typing.get_args(hints[field.name]) if k is not type(None)]
    kind = kinds[0] if kinds else hints[field.name]
    define = {
      bool: flags.DEFINE_boolean,
      int: flags.DEFINE_integer,
      float: flags.DEFINE_float,
      str: flags.DEFINE_string,
    }[kind]
    define(name, field.default, help_, flag_values=values)


def read_config(config_class: type[Config], values: flags.FlagValues) -> Config:
  """Makes a config from its flags.

  Raises:
    UserError: a value out of range.
  """
  fields = dataclasses.fields(config_class)
  return config_class(**{f.name: values[config_class.flag_name(f)].value for f in fields})


def apply_settings(settings: Mapping[str, Any], values: flags.FlagValues) -> None:
  """Sets flags to a method's settings, unless they were given."""
  for name, value in settings.items():
    if not values[name].present:
      values[name].value = value


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


def _warn_of_unused(
  values: flags.FlagValues, used: type[Config], by_learner: dict[str, type[Config]]
) -> None:
  """Warns of flags of other learners that were set, because they do nothing."""
  for learner, config_class in by_learner.items():
    if config_class is used or not config_class.prefix:
      continue
    for field in dataclasses.fields(config_class):
      name = config_class.flag_name(field)
      if values[name].present:
        print(f'Warning: --{name} is a flag of learner {learner} and has no effect.', flush=True)


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
