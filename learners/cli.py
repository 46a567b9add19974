"""The front door: flags -> configs -> learner -> exec_mode. The only reader of flags.

Flags are made from the config classes: the common ones, those of the entry script's network and data
set, and those of every learner with its prefix. A published method's settings stand in for the defaults
of the flags that were not given.
"""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from secateurs.learners.run.switch_words import with_words
from secateurs.utils import command_line, interrupts
from secateurs.utils.config import Config
from secateurs.utils.errors import UserError, sentence_of
from secateurs.utils.flag_values import apply_settings, define_flags, read_config

if TYPE_CHECKING:
  from secateurs.learners.run.measured import MeasuredLearner

FRONT = 'secateurs '  # How the name of a program starts that is a sub-command of it.
MODES = ('train', 'eval', 'export', 'benchmark', 'verify', 'sensitivity', 'inspect')
# How long other processes than the chief wait before they print their error: if the chief prints the
# same one, or if a process has only lost another, the launcher ends them in the meantime.
_SECONDS_FOR_CHIEF = 4.0
_SECONDS_FOR_LOST = 15.0


def main(experiment: Callable[[], Any], argv: Sequence[str] | None = None) -> None:
  """Runs an entry script and exits with the process's code.

  Args:
    experiment: gives the `nets.experiments.Experiment` to run.
    argv: command line; default: that of the process.
  """
  argv = list(sys.argv if argv is None else argv)
  interrupts.arm()
  if isinstance(sys.stdout, io.TextIOWrapper):  # Names of folders need not be UTF-8.
    sys.stdout.reconfigure(errors='backslashreplace')
  quiet = not _is_chief() or {'-h', '--help', '-help'}.intersection(argv)
  text = '' if quiet else 'Loading TensorFlow ...\n'  # Which takes up to ten seconds.
  code = _printed(text) or exit_code(experiment, argv)
  code = max(code, _printed(''))
  # Worker threads of TensorFlow may outlive an interrupted step; they must not delay the exit.
  os._exit(code)


def exit_code(experiment: Callable[[], Any], argv: Sequence[str]) -> int:
  """Does what a command line says, prints what went wrong, and returns the process's exit code.

  Args:
    experiment: see `main`.
    argv: the script's name and its arguments.
  """
  argv = with_words(list(argv))
  debug = any(arg in ('--debug', '-debug', '--debug=true') for arg in argv)
  # The search of the front command has flags without a prefix.
  spoken = ('--js_', '--') if argv[0].startswith(FRONT) else ('', '')
  try:
    code = _run(experiment, argv)
    _leave_job()
    return code
  except KeyboardInterrupt:
    _complain('Interrupted: run the same command again to resume from the last checkpoint.')
    return command_line.INTERRUPTED
  except flags.Error as error:
    _complain(command_line.one_sentence(str(error)))
    return command_line.USAGE_ERROR
  except UserError as error:
    if debug:
      traceback.print_exc()
    _complain(str(error).replace(*spoken))
    return command_line.USER_ERROR
  except Exception as error:
    if debug:
      traceback.print_exc()
    if type(error).__name__ == 'LostPeerError':
      time.sleep(_SECONDS_FOR_LOST)
      _complain(str(error))
    else:
      _complain(command_line.failed_output(error) or sentence_of(error))
    return command_line.USER_ERROR


def _run(experiment: Callable[[], Any], argv: list[str]) -> int:
  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  from secateurs.learners import learners
  from secateurs.learners.methods import METHODS
  from secateurs.learners.run import chain
  from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
  from secateurs.learners.run.help_text import help_text, script_usage
  from secateurs.utils.training import distributed

  spec = experiment()
  common = (RunConfig, TrainConfig, DistillConfig, QuantConfig, *spec.configs)
  by_learner = {name: learner.Config for name, learner in learners().items()}

  def parsed(arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    values = _defined((*common, *by_learner.values()))
    return values, values(arguments)

  values, unparsed = parsed(argv)
  if values.help:
    if _is_chief():
      usage = (
        f'{argv[0]} MODEL --data DATA' if argv[0].startswith(FRONT) else script_usage(spec.name)
      )
      print(help_text(usage, values.learner, common, by_learner, METHODS, MODES))
    return 0
  if len(unparsed) > 1:
    raise flags.Error(
      f'{unparsed[1]!r} is not a flag: flags are written --name value or --name=value.'
    )
  links = [] if values.chain is None else chain.read_chain(values.chain)
  makes = [_maker(parsed([*argv, *link.arguments()])[0], by_learner, values) for link in links]
  make = None if links else _maker(values, by_learner, values)
  distributed.start()
  helper = spec.make(*(read_config(c, values) for c in spec.configs))
  if make is None:
    chain.run(links, makes, helper, values.run_dir, values.exec_mode, dry=values.dry_run)
  else:
    _act(make(helper), values)
  return 0


def _defined(configs: Sequence[type[Config]]) -> flags.FlagValues:
  """All flags at their defaults."""
  values = flags.FlagValues()
  define = {'flag_values': values}
  flags.DEFINE_string('learner', 'full-prec', 'Which learner or published method.', **define)
  flags.DEFINE_string('chain', None, 'YAML file of several learners in a row.', **define)
  flags.DEFINE_enum('exec_mode', 'train', MODES, 'What to do.', **define)
  flags.DEFINE_boolean('dry_run', False, 'Check and print what would be done.', **define)
  flags.DEFINE_boolean('debug', False, 'Show tracebacks.', **define)
  flags.DEFINE_boolean('help', False, 'Show the flags.', short_name='h', **define)
  for config_class in configs:
    define_flags(config_class, values)
  return values


def _maker(
  values: flags.FlagValues, by_learner: Mapping[str, type[Config]], data: flags.FlagValues
) -> Callable[..., MeasuredLearner]:
  """Makes the learner that flags name from a helper; options replace the configs' fields.

  The learner's defaults of the data's flags are set in `data`, where these were not given.

  Raises:
    UserError: an unknown learner, a value out of range, or a flag of another learner.
  """
  from secateurs.learners.methods import resolve
  from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig

  learner_class, method = resolve(values.learner)
  if method is not None:
    apply_settings(method.settings, learner_class.Config, values)
  _refuse_foreign(values, learner_class, by_learner)
  run = read_config(RunConfig, values)
  configs = {
    'config': read_config(learner_class.Config, values),
    'training': read_config(TrainConfig, values),
    'distillation': read_config(DistillConfig, values),
    'quantization': read_config(QuantConfig, values),
    'method': None if method is None else method.name,
  }
  for name, value in configs['config'].data_defaults.items():
    if name in data and not data[name].present:
      data[name].value = value
  return lambda helper, **changes: learner_class(
    helper, run=dataclasses.replace(run, **changes), **configs
  )


def _act(learner: MeasuredLearner, values: flags.FlagValues) -> None:
  """Does what --exec_mode says."""
  import psutil

  from secateurs.learners.channels.analysis import analyse
  from secateurs.learners.channels.inspection import inspect

  learner.began = psutil.Process().create_time()
  {
    'train': learner.dry_run if values.dry_run else learner.train,
    'eval': learner.evaluate,
    'export': learner.export,
    'benchmark': learner.benchmark,
    'verify': learner.verify,
    'sensitivity': lambda: analyse(learner),
    'inspect': lambda: inspect(learner),
  }[values.exec_mode]()


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


def _printed(text: str) -> int:
  """Prints; returns 0, or the exit code of a process that cannot, once that was reported."""
  problem = command_line.output_problem(text)
  if problem is None:
    return 0
  _complain(problem)
  return command_line.USER_ERROR


def _complain(text: str) -> None:
  if not _is_chief():
    time.sleep(_SECONDS_FOR_CHIEF)
  command_line.complain(text)
