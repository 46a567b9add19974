"""The command line that the three launchers share."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODES = ('local', 'docker', 'seven')
# Flags of the launchers with their modes and, where they take a value, its name.
FLAGS = {
  '-n': (MODES, 'K', 'processes, each with a GPU of its own where there are GPUs (default: 1)'),
  '--hosts': (
    ('seven',),
    'A:4,B:4',
    'hosts with the processes that each may run (default: hosts in path.conf, else this machine)',
  ),
  '--ssh_port': (('seven',), 'PORT', 'where the hosts listen for ssh (default: 22)'),
  '--mpijob': (('seven',), None, 'print a Kubernetes MPIJob manifest instead'),
  '--slots': (('seven',), 'S', 'with --mpijob, GPUs and processes of a pod (default: 8 or K)'),
  '--image': (
    ('docker', 'seven'),
    'NAME',
    'a ready image (default: built once from scripts/Dockerfile; with --mpijob, secateurs)',
  ),
  '--dry_run': (MODES, None, 'print the command and run nothing'),
}
_TITLES = {
  'local': 'Runs a job on this machine; with -n=K as K processes that share the work.',
  'docker': 'Runs a job in a container with TensorFlow for GPUs, Horovod and NCCL.',
  'seven': 'Runs a job on several hosts over ssh, or writes it down for Kubernetes.',
}
_VALUES = re.compile(r'^\s*([\w-]+)\s*=\s*([^#]*?)\s*(?:#.*)?$')


class UsageError(Exception):
  """A command line that cannot be run; the text is one sentence."""


@dataclasses.dataclass
class Job:
  """What is to be run.

  Attributes:
    mode: one of `MODES`.
    script: path of the entry script, as it is given to Python.
    flags: the script's own flags, with ~ made the caller's home: elsewhere there is another.
    options: values of the launcher's flags that were given, by name without dashes.
  """

  mode: str
  script: str
  flags: list[str]
  options: dict[str, str]

  @property
  def nb_processes(self) -> int:
    """Number of processes."""
    return int(self.options.get('n', 1))

  @property
  def dry_run(self) -> bool:
    """Whether to print the command only."""
    return 'dry_run' in self.options

  @property
  def dataset(self) -> str | None:
    """Name of the data set, as the entry script's name tells it."""
    match = re.search(r'_at_(\w+)_run\.py$', self.script)
    return match[1] if match else None

  def data_folder(self) -> str | None:
    """The data set's folder for this mode in path.conf: its own, else the local one."""
    entries = path_conf()
    for mode in dict.fromkeys((self.mode, 'local')):
      folder = entries.get(f'data_dir_{mode}_{self.dataset}')
      if folder:
        return folder
    return None

  def script_flags(self) -> list[str]:
    """The script's flags; elsewhere than on this machine with path.conf's folder, if they name none."""
    folder = None if self.mode == 'local' else self.data_folder()
    if folder is None or any(re.match(r'--?data_dir_local(=|$)', flag) for flag in self.flags):
      return self.flags
    return [*self.flags, '--data_dir_local', folder]


def path_conf(path: Path = Path('path.conf')) -> dict[str, str]:
  """The entries `key = value` of path.conf; None means not set."""
  if not path.is_file():
    return {}
  lines = path.read_text(encoding='utf-8').splitlines()
  matches = [match for line in lines if (match := _VALUES.match(line))]
  return {m[1]: os.path.expanduser(m[2]) for m in matches if m[2] and m[2] != 'None'}


def usage(mode: str) -> str:
  """What -h prints."""
  lines = [
    f'Usage: ./scripts/run_{mode}.sh <entry script> [-n=K] [flags]',
    _TITLES[mode],
    '',
    "Flags of the launcher (all others are the entry script's):",
  ]
  for flag, (modes, value, text) in FLAGS.items():
    if mode in modes:
      lines.append(f'  {flag + (f"={value}" if value else ""):<18} {text}')
  lines += [
    '  -h                 this text',
    '',
    'Data folders may stand in path.conf, one a line: data_dir_local_<data set> = /folder'
    + ('' if mode == 'local' else f', or data_dir_{mode}_<data set> for this launcher alone')
    + '.',
    'Entry scripts:',
    *sorted(f'  nets/{path.name}' for path in (ROOT / 'nets').glob('*_run.py')),
    f'Flags of one: ./scripts/run_{mode}.sh nets/resnet_at_cifar10_run.py --help',
  ]
  return '\n'.join(lines)


def parse(mode: str, argv: list[str]) -> Job | None:
  """Reads a command line; None if it asks for help.

  Flags are written -n=4 or -n 4, in any place. What is no flag of the launcher is the script's.

  Raises:
    UsageError: no such script, or a wrong value.
  """
  if not argv or argv[0] in ('-h', '--help'):
    return None
  options: dict[str, str] = {}
  rest: list[str] = []
  words = iter(argv)
  for word in words:
    name, separator, value = word.partition('=')
    if name not in FLAGS or mode not in FLAGS[name][0]:
      rest.append(word)
      continue
    takes = FLAGS[name][1]
    if takes is None and separator:
      raise UsageError(f'{name} takes no value, but {value!r} was given.')
    if takes is not None and not separator:
      value = next(words, '')
    if takes is not None and (not value or (value.startswith('-') and name != '-n')):
      raise UsageError(f'{name} takes a value, as in {name}={takes}.')
    options[name.lstrip('-')] = value
  for name in ('n', 'slots', 'ssh_port'):
    if name in options and not re.fullmatch(r'[1-9]\d*', options[name]):
      flag = '-n' if name == 'n' else f'--{name}'
      raise UsageError(
        f'{flag} takes a whole number of at least 1, but {options[name]!r} was given.'
      )
  if not rest or rest[0].startswith('-'):
    raise UsageError('the entry script comes first, as in nets/resnet_at_cifar10_run.py.')
  return Job(mode, _find_script(rest[0]), [_expanded(word) for word in rest[1:]], options)


def _expanded(word: str) -> str:
  """A word with its ~, which the shell leaves alone behind =."""
  name, separator, value = word.partition('=')
  if separator and word.startswith('-'):
    return f'{name}={os.path.expanduser(value)}'
  return os.path.expanduser(word)


def _find_script(name: str) -> str:
  """The script where it is named, else below the project's folder."""
  if Path(name).is_file():
    return name
  script = ROOT / name
  if not script.is_file():
    raise UsageError(f'the entry script {name} does not exist.')
  return str(script)
