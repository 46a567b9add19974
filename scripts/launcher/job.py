"""Parses the command line, which is the same for the three launchers."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODES = ('local', 'docker', 'seven')
# Flags of the launchers: their modes, the name of their value (None: no value), their help text.
FLAGS = {
  '-n': (MODES, 'K', 'number of processes; each gets its own GPU if there are GPUs (default: 1)'),
  '--hosts': (
    ('seven',),
    'A:4,B:4',
    'hosts and their numbers of processes (default: hosts in path.conf, else this machine)',
  ),
  '--ssh_port': (('seven',), 'PORT', 'ssh port of the hosts (default: 22)'),
  '--mpijob': (('seven',), None, 'print a Kubernetes MPIJob manifest instead'),
  '--slots': (('seven',), 'S', 'with --mpijob, GPUs and processes per pod (default: 8 or K)'),
  '--image': (
    ('docker', 'seven'),
    'NAME',
    'an existing image (default: built once from scripts/Dockerfile; with --mpijob, secateurs)',
  ),
  '--print_command': (MODES, None, 'print the command and run nothing'),
  '--dry_run': (
    ('docker', 'seven'),
    None,
    'the same; with run_local.sh it is a flag of the script',
  ),
}
_TITLES = {
  'local': 'Runs a job on this machine; with -n=K, as K processes that divide the work.',
  'docker': 'Runs a job in a container with TensorFlow for GPUs, Horovod and NCCL.',
  'seven': 'Runs a job on several hosts over ssh, or prints a Kubernetes manifest for it.',
}
# Flags of run_seven.sh that have no effect with --mpijob, and without it.
_OF_SSH, _OF_MPIJOB = ('hosts', 'ssh_port'), ('slots', 'image')
_NEAR = 0.8  # Similarity of a typing error, as difflib measures it.
_VALUES = re.compile(r'^\s*([\w-]+)\s*=\s*([^#]*?)\s*(?:#.*)?$')


class UsageError(Exception):
  """An invalid command line; the text is one sentence."""


@dataclasses.dataclass
class Job:
  """A parsed command line.

  Attributes:
    mode: one of `MODES`.
    script: path of the entry script, as it is given to Python.
    flags: the script's own flags, with ~ replaced by the caller's home, which may differ elsewhere.
    options: values of the given launcher flags, by name without dashes.
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
    """Whether to only print the command."""
    return 'dry_run' in self.options or 'print_command' in self.options

  @property
  def dataset(self) -> str | None:
    """Name of the data set, taken from the entry script's name."""
    match = re.search(r'_at_(\w+)_run\.py$', self.script)
    return match[1] if match else None

  def data_folder(self) -> str | None:
    """Returns the data set's folder in path.conf: the one for this mode, else the local one."""
    entries = path_conf()
    for mode in dict.fromkeys((self.mode, 'local')):
      folder = entries.get(f'data_dir_{mode}_{self.dataset}')
      if folder:
        return folder
    return None

  def script_flags(self) -> list[str]:
    """Returns the script's flags; docker and seven add path.conf's data folder if none is given."""
    folder = None if self.mode == 'local' else self.data_folder()
    if folder is None or any(re.match(r'--?data_dir_local(=|$)', flag) for flag in self.flags):
      return self.flags
    return [*self.flags, '--data_dir_local', folder]


def path_conf(path: Path = Path('path.conf')) -> dict[str, str]:
  """Returns the entries `key = value` of path.conf; the value None means not set."""
  if not path.is_file():
    return {}
  lines = path.read_text(encoding='utf-8').splitlines()
  matches = [match for line in lines if (match := _VALUES.match(line))]
  return {m[1]: os.path.expanduser(m[2]) for m in matches if m[2] and m[2] != 'None'}


def usage(mode: str) -> str:
  """Returns the text that -h prints."""
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
    'Data folders can be set in path.conf, one per line: data_dir_local_<data set> = /folder'
    + ('' if mode == 'local' else f', or data_dir_{mode}_<data set> for this launcher only')
    + '.',
    'Entry scripts:',
    *sorted(f'  nets/{path.name}' for path in (ROOT / 'nets').glob('*_run.py')),
    f'Flags of one: ./scripts/run_{mode}.sh nets/resnet_at_cifar10_run.py --help',
  ]
  return '\n'.join(lines)


def parse(mode: str, argv: list[str]) -> Job | None:
  """Parses a command line; returns None if it asks for help.

  Flags are written -n=4 or -n 4, in any position. All other flags are passed on to the script.

  Raises:
    UsageError: the script does not exist, or a value is invalid.
  """
  if not argv or argv[0] in ('-h', '--help'):
    return None
  options: dict[str, str] = {}
  rest: list[str] = []
  words = iter(argv)
  for word in words:
    name, separator, value = word.partition('=')
    if name not in FLAGS or mode not in FLAGS[name][0]:
      _refuse_typo(name, mode)
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
  if mode == 'seven':
    manifest = 'mpijob' in options
    lost = [one for one in (_OF_SSH if manifest else _OF_MPIJOB) if one in options]
    if lost:
      why = (
        'has no effect with --mpijob: leave' if manifest else 'needs --mpijob: add that, or leave'
      )
      raise UsageError(f'--{lost[0]} {why} --{lost[0]} out.')
  if not rest or rest[0].startswith('-'):
    raise UsageError('the entry script comes first, as in nets/resnet_at_cifar10_run.py.')
  return Job(mode, _find_script(rest[0]), [_expanded(word) for word in rest[1:]], options)


def _refuse_typo(name: str, mode: str) -> None:
  """Raises UsageError for a flag that is nearly one of this launcher's.

  The script would refuse it, too, but only after the set-up, or after the image was built. No flag of
  the project's scripts is as near (see tests/scripts/test_launchers.py).
  """
  if not name.startswith('-'):
    return
  own = {flag.lstrip('-'): flag for flag in FLAGS if mode in FLAGS[flag][0]}
  bare = name.lstrip('-')
  near = difflib.get_close_matches(bare, own, 1, _NEAR)
  if re.fullmatch(r'n(p|\d*)', bare):
    near = ['n']
  if near:
    raise UsageError(f'{name} is no flag: did you mean {own[near[0]]}?')


def _expanded(word: str) -> str:
  """Replaces ~ in a word, which the shell does not do after =."""
  name, separator, value = word.partition('=')
  if separator and word.startswith('-'):
    return f'{name}={os.path.expanduser(value)}'
  return os.path.expanduser(word)


def _find_script(name: str) -> str:
  """Finds the script relative to the current folder, else to the project's folder."""
  if Path(name).is_file():
    return name
  script = ROOT / name
  if not script.is_file():
    known = [f'nets/{path.name}' for path in (ROOT / 'nets').glob('*_run.py')]
    near = difflib.get_close_matches(name, known, 1, _NEAR)
    hint = f'did you mean {near[0]}?' if near else '-h lists those of the project.'
    raise UsageError(f'the entry script {name} does not exist: {hint}')
  return str(script)
