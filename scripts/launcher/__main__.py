"""Runs a job: python scripts/launcher MODE <entry script> [-n=K] [flags]; see the run_*.sh scripts.

It needs only Python, so that it starts before the project is installed.
"""

from __future__ import annotations

import os
import shlex
import sys

import container
import kubernetes
import processes
from gpus import idle_gpus
from job import Job, UsageError, parse, path_conf, usage


def main(mode: str, argv: list[str]) -> int:
  """Runs a command line and returns the exit code."""
  try:
    job = parse(mode, argv)
    if job is None:
      print(usage(mode))
      return 0
    return {'local': _local, 'docker': _docker, 'seven': _seven}[mode](job)
  except UsageError as error:
    print(f'Error: {error}', file=sys.stderr)
    return 2


def _local(job: Job) -> int:
  environment = dict(os.environ)
  if 'CUDA_VISIBLE_DEVICES' not in environment and (gpus := idle_gpus(job.nb_processes)):
    environment['CUDA_VISIBLE_DEVICES'] = ','.join(gpus)
  return _run(job, processes.command(job, f'localhost:{job.nb_processes}'), environment)


def _docker(job: Job) -> int:
  if not job.dry_run:
    return container.run(job)
  for words in container.plan(job):
    print(shlex.join(words))
  return 0


def _seven(job: Job) -> int:
  if 'mpijob' in job.options:
    print(kubernetes.manifest(job))
    return 0
  hosts = job.options.get('hosts') or path_conf().get('hosts')
  if hosts is None:
    hosts = f'localhost:{job.nb_processes}'
    print('No --hosts were given: all processes run on this machine.', file=sys.stderr)
  hosts = processes.check_hosts(hosts, job.nb_processes)
  return _run(job, processes.command(job, hosts), dict(os.environ))


def _run(job: Job, words: list[str], environment: dict[str, str]) -> int:
  if job.dry_run:
    print(shlex.join(words))
    return 0
  return processes.run(words, environment)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1], sys.argv[2:]))
