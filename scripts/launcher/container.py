"""Runs a job in a container: the image of scripts/Dockerfile, built once, with the folders it needs."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from gpus import idle_gpus
from job import ROOT, Job, UsageError, path_conf

PROJECT = '/opt/secateurs'  # The project's folder in the image.
_PREFIX = re.compile(r'save_path(_eval|_dst)?$')
_HOME = '/tmp'  # The calling user has no home in the container.
_INGREDIENTS = ('scripts/Dockerfile', 'scripts/env.sh', 'scripts/install_horovod.sh', 'setup.py',
                'pyproject.toml')  # fmt: skip


def image_name() -> str:
  """Returns the image's name; its tag is a digest of the build files, without the project's code."""
  digest = hashlib.sha256(b''.join((ROOT / name).read_bytes() for name in _INGREDIENTS))
  return f'secateurs:{digest.hexdigest()[:12]}'


def build_command(image: str) -> list[str]:
  """Returns the command that builds the image."""
  return ['docker', 'build', '-t', image, '-f', str(ROOT / 'scripts' / 'Dockerfile'), str(ROOT)]


def run_command(job: Job, image: str, gpus: list[str]) -> list[str]:
  """Returns the command that runs the job as the calling user, with all folders at their own paths."""
  words = ['docker', 'run', '--rm', '--init', '--ipc=host']
  if sys.stdin.isatty() and sys.stdout.isatty():
    words.append('-t')
  if gpus:
    words += ['--gpus', f'"device={",".join(gpus)}"']
  words += ['-u', f'{os.getuid()}:{os.getgid()}', '-w', str(Path.cwd())]
  words += ['-e', f'HOME={_HOME}', '-e', f'MPLCONFIGDIR={_HOME}']
  if os.environ.get('SECATEURS_DATA'):
    words += ['-e', 'SECATEURS_DATA']
  for folder, access in mounts(job).items():
    words += ['-v', f'{folder}:{folder}{access}']
  cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'secateurs'
  words += ['-v', f'{cache}:{_HOME}/.cache/secateurs', '-v', f'{ROOT}:{PROJECT}:ro']
  number = [f'-n={job.nb_processes}'] if job.nb_processes > 1 else []
  return [
    *words,
    image,
    f'{PROJECT}/scripts/run_local.sh',
    script_inside(job),
    *number,
    *job.script_flags(),
  ]


def script_inside(job: Job) -> str:
  """Returns the entry script's path in the container; scripts outside the project keep their path."""
  script = Path(job.script).resolve()
  return f'{PROJECT}/{script.relative_to(ROOT)}' if script.is_relative_to(ROOT) else str(script)


def mounts(job: Job) -> dict[str, str]:
  """Returns the folders that the job reads (`:ro`) and writes (empty), each at its own path.

  These are the current folder, which contains models and logs by default; the data folders; and every
  path in a flag that is absolute or begins with `..`. For a file or a prefix of checkpoints or exports,
  its parent folder is mounted.
  """
  found = {str(Path.cwd()): ''}
  data = {job.data_folder(), path_conf().get(f'data_dir_local_{job.dataset}'),
          os.environ.get('SECATEURS_DATA')}  # fmt: skip
  for flag, value in _values(job.flags):
    if flag.endswith('data_dir_local'):
      data.add(value)
      continue
    path = Path(value)
    if path.parts[:1] == ('..',):  # Outside the current folder.
      path = Path(os.path.abspath(value))
    if not path.is_absolute():
      continue
    # Only flags with this ending name folders that may not exist yet.
    is_folder = flag.endswith('_dir') or (path.is_dir() and not _PREFIX.search(flag))
    found.setdefault(str(path if is_folder else path.parent), '')
  script = Path(job.script).resolve()
  if not script.is_relative_to(ROOT):
    found.setdefault(str(script.parent), '')
  for folder in sorted(filter(None, data)):
    found.setdefault(str(Path(folder).expanduser().absolute()), ':ro')
  return found


def _values(flags: list[str]) -> list[tuple[str, str]]:
  """Returns flags with their values, given after = or as the next word."""
  pairs = []
  for number, word in enumerate(flags):
    if not word.startswith('-'):
      continue
    name, separator, value = word.partition('=')
    if not separator and number + 1 < len(flags) and not flags[number + 1].startswith('-'):
      value = flags[number + 1]
    pairs.append((name.lstrip('-'), value))
  return pairs


def plan(job: Job) -> list[list[str]]:
  """Returns the commands of a job: the build of the image, unless --image names one, then the run."""
  gpus = idle_gpus(job.nb_processes)
  image = job.options.get('image') or image_name()
  run = run_command(job, image, gpus)
  return [run] if 'image' in job.options else [build_command(image), run]


def run(job: Job) -> int:
  """Builds the image if it does not exist, and replaces this process by the job.

  Raises:
    UsageError: docker is missing, or the image cannot be built.
  """
  if shutil.which('docker') is None:
    raise UsageError('docker was not found: install it, or use ./scripts/run_local.sh.')
  *builds, words = plan(job)
  for build in builds:
    inspect = ['docker', 'image', 'inspect', build[build.index('-t') + 1]]
    if subprocess.run(inspect, capture_output=True, check=False).returncode == 0:
      continue
    print('Building the image: this takes some minutes, once.', file=sys.stderr, flush=True)
    code = subprocess.run(build, check=False).returncode
    if code:
      raise UsageError(f'the image could not be built (docker ended with code {code}).')
  # Docker would create missing folders itself, owned by root.
  for word, value in itertools.pairwise(words):
    if word == '-v' and not value.endswith(':ro'):
      Path(value.split(':')[0]).mkdir(parents=True, exist_ok=True)
  os.execvp(words[0], words)
