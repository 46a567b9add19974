"""The command `secateurs`, for a pip installation without a checkout: one word for each thing to do.

Thin: each sub-command calls what the scripts of a checkout run, with the same flags.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secateurs.utils import command_line
from secateurs.utils.errors import UsageError, UserError

JOINT = 'joint-search'
DEFAULTS = {'enbl_dst': True, 'enbl_bf16': True}
"""Flags of `compress` whose defaults differ from those of a single learner."""

_HELP = ('-h', '--help', '-help')
_ARRAYS = ('.npy', '.npz')
_IMAGES = ('.jpg', '.jpeg', '.png')

# The fields of JsConfig except for its paths, which are those of --run_dir. They stand here so that the
# command is there at once: JsConfig takes TensorFlow along.
_SHORT = (
  'max_drop',
  'minimise',
  'max_bytes',
  'max_latency',
  'max_macs',
  'max_ram',
  'time',
  'file',
  'take',
  'judge',
  'nb_tries',
  'nb_epochs_try',
  'first_step',
  'nb_smpls_judge',
  'nb_smpls_scan',
  'weight_bits',
  'trunk',
  'skip',
  'norms',
  'heads',
  'even_splits',
)
_USAGE = """usage: secateurs COMMAND ...

  compress MODEL --data DATA [--max_drop 0.01] [--minimise bytes|latency|macs|ram] [--time 30m]
                        the smallest or fastest file within a loss; or --max_bytes 200kB,
                        --max_latency 3ms, --max_macs 20M, --max_ram 64kB with the least loss
  evaluate MODEL --data DATA          the score of a model file
  verify MODEL --data DATA            compare the files of a run with the model, layer by layer
  inspect MODEL                       channel groups of a model, and what may be cut
  latency-table MODEL --out FILE      time each layer on this machine
  compare RUN_DIR ...                 finished runs on one page
  methods                             published methods and their settings

MODEL: a .keras or .h5 file, or a network of this package with its data, such as resnet_at_cifar10.
DATA:  a folder with one sub-folder of images for each class, or with train.npz and test.npz; or
       cifar10 or ilsvrc12 (their folder: --data_dir_local). Without labels: a folder of images, or a
       .npy or .npz file.
All further flags, such as --learner, --run_dir, --dry_run: secateurs compress MODEL --help."""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code, where it returns at all."""
  return command_line.exit_code(lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(argv: list[str]) -> int:
  command, rest = (argv[0], argv[1:]) if argv else ('', [])
  if command in ('', '-h', '--help', 'help'):
    print(_USAGE)
    return 0 if argv else 2
  if command not in _COMMANDS:
    near = difflib.get_close_matches(command, _COMMANDS, 1)
    hint = f'did you mean {near[0]}?' if near else f'expected one of {", ".join(_COMMANDS)}.'
    raise UsageError(f'secateurs has no command {command!r}: {hint}')
  return _COMMANDS[command](rest)


def compress_arguments(
  arguments: Sequence[str], command: str = 'compress'
) -> tuple[str, list[str]]:
  """The model, and the flags that the entry scripts take.

  Args:
    arguments: of `secateurs compress`, or of another command on a model and data.
    command: its name, for messages.

  Raises:
    UserError: there is no model, or --data names nothing.
  """
  asked = [place for place, one in enumerate(arguments) if one in _HELP]
  if not arguments or (arguments[0].startswith('-') and not asked):
    raise UsageError(
      f'secateurs {command} needs a model: give MODEL --data DATA, such as model.keras --data photos.'
    )
  first = asked[0] if arguments[0].startswith('-') else 0
  model, flags = arguments[first], [*arguments[:first], *arguments[first + 1 :]]
  flags, data = _without(flags, 'data')
  given = {flag.lstrip('-').split('=')[0] for flag in flags if flag.startswith('-')}
  found: list[str] = []
  if 'learner' not in given and 'chain' not in given:
    found = [f'--learner={JOINT}', *(_flag(*one) for one in DEFAULTS.items())]
    flags = [_long(flag) for flag in flags]
  return model, [*found, *(_data_flags(data) if data is not None else []), *flags]


def with_prefix(flags: Mapping[str, Any]) -> dict[str, Any]:
  """Flags by name, those of joint-search with its prefix."""
  return {f'js_{name}' if name in _SHORT else name: value for name, value in flags.items()}


def _flag(name: str, value: Any) -> str:
  return f'--{name}' if value is True else f'--{name}={value}'


def _long(flag: str) -> str:
  """A flag of joint-search with its prefix."""
  name, equals, value = flag.partition('=')
  bare = name.lstrip('-')
  no = 'no' if bare.startswith('no') and bare not in _SHORT else ''
  field = bare.removeprefix(no)
  return f'--{no}js_{field}{equals}{value}' if name.startswith('-') and field in _SHORT else flag


def _without(flags: list[str], name: str) -> tuple[list[str], str | None]:
  """Flags without one of them, and its value.

  Raises:
    UserError: it has no value, or several; an empty path would be the current folder.
  """
  kept, values = [], []
  words = iter(flags)
  for flag in words:
    if flag == f'--{name}':
      values.append(next(words, ''))
    elif flag.startswith(f'--{name}='):
      values.append(flag.partition('=')[2])
    else:
      kept.append(flag)
  if '' in values or len(values) > 1:
    found = 'an empty one or none' if '' in values else ' and '.join(values)
    raise UserError(f'--{name} takes one value, as in --{name} photos, but {found} was given.')
  return kept, values[0] if values else None


def _data_flags(data: str) -> list[str]:
  path = Path(data).expanduser()
  if data in ('cifar10', 'ilsvrc12'):
    return [f'--data_set={data}']
  if path.is_file() and path.suffix in _ARRAYS:
    return ['--data_set=arrays', f'--data_dir_local={path}']
  if not path.is_dir():
    found = 'a file of another kind' if path.is_file() else 'no folder'
    raise UserError(
      f'--data {data} is {found}: give a folder with a sub-folder of images for each class, one with '
      'train.npz and test.npz, or cifar10 or ilsvrc12; images without labels may lie in the folder '
      'itself, or in a .npy or .npz file.'
    )
  kind = 'arrays' if (path / 'train.npz').is_file() else _kind_of_folder(path)
  return [f'--data_set={kind}', f'--data_dir_local={path}']


def _kind_of_folder(folder: Path) -> str:
  """Whether images lie in folders of classes, or alone."""
  root = folder / 'train' if (folder / 'train').is_dir() else folder
  with os.scandir(root) as entries:
    found = [(entry.is_dir(), entry.name.lower()) for entry in entries if entry.name[0] != '.']
  classes = any(is_folder for is_folder, _ in found)
  images = any(name.endswith(_IMAGES) for is_folder, name in found if not is_folder)
  return 'images' if images and not classes else 'image_folder'


def _experiment(model: str) -> tuple[Callable[[], Any], list[str]]:
  """What gives the experiment of a model file or of a network's name, and the flags that name it.

  Raises:
    UserError: there is neither, or the file is of a kind that holds no Keras model.
  """
  from secateurs.utils.other_models import refuse_others

  if model in _HELP:
    from secateurs.nets.saved_model_run import experiment

    return experiment, ['--help']
  name, path = model.removesuffix('_run'), Path(model).expanduser()
  if not path.exists():
    known = [one.stem.removesuffix('_run') for one in Path(__file__).parent.glob('*_at_*_run.py')]
    if name in known:
      return importlib.import_module(f'secateurs.nets.{name}_run').experiment, []
    near = difflib.get_close_matches(name, known, 1)
    hint = f'did you mean {near[0]}?' if near else 'give a .keras or .h5 file, or such a network.'
    raise UserError(
      f'{model} does not exist, nor is it a network of this package such as resnet_at_cifar10: {hint}'
    )
  refuse_others(path, model)
  from secateurs.nets.saved_model_run import experiment

  return experiment, [f'--model={path}']


def _run(arguments: Sequence[str], command: str = 'compress', mode: str | None = None) -> int:
  from secateurs.learners import cli

  model, flags = compress_arguments(arguments, command)
  experiment, naming = _experiment(model)
  if not naming:  # Such a network comes with its kind of data.
    flags = [flag for flag in flags if not flag.startswith('--data_set=')]
  if mode is not None and any(flag.startswith('--exec_mode') for flag in flags):
    raise UsageError(f'secateurs {command} sets --exec_mode {mode} itself: leave --exec_mode out.')
  modes = [] if mode is None else [f'--exec_mode={mode}']
  cli.main(experiment, [f'{cli.FRONT}{command}', *naming, *flags, *modes])
  return 0


def _evaluate(arguments: Sequence[str]) -> int:
  given = [] if any(one.startswith('--learner') for one in arguments) else ['--learner=full-prec']
  return _run([*arguments, *given], 'evaluate', 'eval')


def _inspect(arguments: Sequence[str]) -> int:
  from secateurs.utils.graph.__main__ import main as run

  return run(arguments, 'secateurs inspect')


def _latency_table(arguments: Sequence[str]) -> int:
  from secateurs.utils.deploy.latency_table.cli import main as run

  return run(arguments, 'secateurs latency-table')


def _compare(arguments: Sequence[str]) -> int:
  from secateurs.utils.deploy.compare.cli import main as run

  return run(arguments, 'secateurs compare')


def _methods(arguments: Sequence[str]) -> int:
  command_line.Parser(
    prog='secateurs methods', description='Prints the published methods and their settings.'
  ).parse_args(arguments)
  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  from secateurs.learners.methods import table

  print(table())
  return 0


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
  'compress': _run,
  'evaluate': _evaluate,
  'verify': lambda arguments: _run(arguments, 'verify', 'verify'),
  'inspect': _inspect,
  'latency-table': _latency_table,
  'compare': _compare,
  'methods': _methods,
}
