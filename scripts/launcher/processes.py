"""Runs several processes under horovodrun and shows them to the user as one job."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import IO

from gpus import have_gpus
from job import ROOT, Job, UsageError

# Ranks wait for rank 0 while it exports and times, so the warning about a stall comes late; dead ranks
# are noticed at once.
_PATIENCE = ('--stall-check-warning-time-seconds', '900')
_OF_RANK = re.compile(r'^\[(\d+)\]<(stdout|stderr)>:(.*)$', re.DOTALL)
_ENDED = re.compile(r'^Process (\d+) exit with status code (-?\d+)')
_CHATTER = re.compile(
  r'^(WARNING: All log messages before absl|[IWE]\d{4} |To enable the following|Terminated$)'
  r'|^\[20\S+ \S+ E .*Horovod background loop uncaught exception'  # Of a rank that has lost another.
)
_NB_SHOWN = 8
# Before --, horovodrun refuses a flag of the script that is the beginning of several of its flags.
AS_IT_IS = ('env', '--')


def tuning(on_gpus: bool) -> tuple[str, ...]:
  """Returns Horovod's settings.

  In each cycle the ranks ask each other which tensors are ready to be reduced. At 0.5 ms this took 14
  to 18 % of a core, at 5 ms 4 %. If the ranks compute on the cores, this costs more than gradients that
  wait for the next cycle.
  """
  return '--cycle-time-ms', '1' if on_gpus else '5', *_PATIENCE


def command(job: Job, hosts: str) -> list[str]:
  """Returns the command of a job: horovodrun, or plain Python for a single process."""
  script = ['python', job.script, *job.script_flags()]
  if job.nb_processes == 1 and hosts.split(':')[0] == 'localhost':
    return script
  port = ['-p', job.options['ssh_port']] if 'ssh_port' in job.options else []
  number = str(job.nb_processes)
  return ['horovodrun', '--gloo', '-np', number, '-H', hosts, *port, *tuning(have_gpus()),
          *AS_IT_IS, *script]  # fmt: skip


def run(words: list[str], environment: dict[str, str]) -> int:
  """Runs a command inside the project's environment and returns its exit code.

  A single process replaces this process. With several, the output of rank 0 is shown unchanged, and the
  errors of the others with their rank; the first that fails ends the job and gives its exit code.
  """
  if words[0] != 'horovodrun':
    os.execvpe('bash', _in_environment('exec "$@"', words), environment)
  needed = (
    'command -v horovodrun >/dev/null || secateurs_fail "several processes (-n) need Horovod, which '
    'is not installed: run ./scripts/install_horovod.sh." || exit 1; exec "$@"'
  )
  return _Job(_in_environment(needed, words), environment).wait()


def _in_environment(script: str, words: list[str]) -> list[str]:
  return [
    'bash',
    '-c',
    f'source "$0" || exit 1; {script}',
    str(ROOT / 'scripts' / 'env.sh'),
    *words,
  ]


class _Job:
  """A running horovodrun."""

  def __init__(self, words: list[str], environment: dict[str, str]) -> None:
    self.ended: tuple[int, int] | None = None
    self._own_lines: list[str] = []
    self._stopped_by: int | None = None
    self._process = subprocess.Popen(
      words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, self._stop)
    pipes = ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr))
    self._threads = [threading.Thread(target=self._show, args=pipe, daemon=True) for pipe in pipes]
    for thread in self._threads:
      thread.start()

  def _stop(self, number: int, frame: object) -> None:
    del frame
    self._stopped_by = number
    self._process.send_signal(signal.SIGTERM)

  def _show(self, pipe: IO[str], target: IO[str]) -> None:
    for line in pipe:
      match = _OF_RANK.match(line)
      if match:
        rank, stream, text = int(match[1]), match[2], match[3]
        if not _CHATTER.search(text):
          print(text if rank == 0 else f'[rank {rank}] {text}', end='', flush=True,
                file=sys.stderr if stream == 'stderr' else target)  # fmt: skip
        continue
      ended = _ENDED.match(line)
      if ended:
        self.ended = self.ended or (int(ended[1]), int(ended[2]))
      elif line.startswith('Error: '):
        print(line, end='', file=sys.stderr, flush=True)
      elif line.strip() and not _CHATTER.search(line):
        self._own_lines.append(line)

  def wait(self) -> int:
    """Waits for the end; prints what went wrong."""
    code = self._process.wait()
    for thread in self._threads:
      thread.join(timeout=5)
    if self._stopped_by is not None:
      print('Error: Interrupted: run the same command again to resume.', file=sys.stderr)
      return 128 + self._stopped_by
    if code and self.ended is not None:
      rank, status = self.ended
      status = 128 - status if status < 0 else status
      if status > 128:
        how = f'was killed by signal {status - 128}'
        then = '; run the same command again to resume from the last checkpoint'
      else:
        how, then = f'ended with code {status}', ''
      if rank or status > 128:  # Rank 0 has printed its own error.
        print(
          f'Error: process {rank} of the job {how}, which ended the job{then}.', file=sys.stderr
        )
      return status
    if code and self._own_lines:
      sys.stderr.writelines(self._own_lines[-_NB_SHOWN:])
    return code


def check_hosts(hosts: str, nb_processes: int) -> str:
  """Returns the hosts in horovodrun's format.

  Raises:
    UsageError: the list is malformed, or has too few slots.
  """
  slots = 0
  for host in hosts.split(','):
    match = re.fullmatch(r'[\w.-]+:([1-9]\d*)', host.strip())
    if not match:
      raise UsageError(
        f'--hosts takes hosts and their numbers of processes, as in a:4,b:4, but {hosts!r} was given.'
      )
    slots += int(match[1])
  if slots < nb_processes:
    raise UsageError(f'-n asks for {nb_processes} processes, but --hosts has room for {slots}.')
  return ','.join(host.strip() for host in hosts.split(','))
