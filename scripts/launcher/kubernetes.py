"""Prints a job as a Kubernetes manifest: an MPIJob of Kubeflow's MPI operator, version v2beta1.

The operator starts the pods, gives them ssh keys for each other, and writes a host file for the
launcher. horovodrun needs nothing else; MPI itself is not used.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from container import script_inside
from job import Job, UsageError
from processes import AS_IT_IS, tuning

_SLOTS = 8
_HOSTFILE = '/etc/mpi/hostfile'


def manifest(job: Job) -> str:
  """Returns the manifest as YAML.

  The current folder and the data folder are mounted from the nodes at the same paths, which fits
  clusters with a common file system.

  Raises:
    UsageError: the number of processes is not a multiple of the slots.
  """
  slots = int(job.options.get('slots', min(job.nb_processes, _SLOTS)))
  if job.nb_processes % slots:
    raise UsageError(
      f'-n asks for {job.nb_processes} processes, which is not a multiple of {slots} per pod: '
      'give --slots a divisor of it.'
    )
  script = Path(job.script)
  name = re.sub(r'[^a-z0-9]+', '-', script.stem.lower()).strip('-')
  ranks = ['-np', str(job.nb_processes), '--hostfile', _HOSTFILE]
  script_words = ['python', script_inside(job), *job.script_flags()]
  command = ['horovodrun', '--gloo', *ranks, *tuning(on_gpus=True), *AS_IT_IS, *script_words]
  worker = _pod(job, 'worker', ['/usr/sbin/sshd', '-De'])
  worker['containers'][0]['resources'] = {'limits': {'nvidia.com/gpu': slots}}
  launcher = _pod(job, 'launcher', command)
  replicas = {
    'Launcher': {'replicas': 1, 'template': {'spec': launcher}},
    'Worker': {'replicas': job.nb_processes // slots, 'template': {'spec': worker}},
  }
  spec = {
    'slotsPerWorker': slots,
    'runPolicy': {'cleanPodPolicy': 'Running'},
    'sshAuthMountPath': '/root/.ssh',
    'mpiReplicaSpecs': replicas,
  }
  whole = {
    'apiVersion': 'kubeflow.org/v2beta1',
    'kind': 'MPIJob',
    'metadata': {'name': name},
    'spec': spec,
  }
  return '\n'.join(_yaml(whole))


def _pod(job: Job, name: str, command: list[str]) -> dict[str, Any]:
  folders = {'work': str(Path.cwd())}
  data = job.data_folder()
  if data:
    folders['data'] = data
  container = {
    'name': name,
    'image': job.options.get('image', 'secateurs'),
    'workingDir': str(Path.cwd()),
    'command': command,
    'volumeMounts': [{'name': volume, 'mountPath': path} for volume, path in folders.items()],
  }
  volumes = [{'name': volume, 'hostPath': {'path': path}} for volume, path in folders.items()]
  return {'containers': [container], 'volumes': volumes}


def _yaml(value: Any, indent: str = '') -> list[str]:
  """Returns lines of YAML; scalars are written as JSON, which is valid YAML."""
  if isinstance(value, dict):
    lines = []
    for key, inner in value.items():
      if isinstance(inner, (dict, list)):
        lines += [f'{indent}{key}:', *_yaml(inner, indent + '  ')]
      else:
        lines.append(f'{indent}{key}: {json.dumps(inner)}')
    return lines
  lines = []
  for inner in value:
    if isinstance(inner, (dict, list)):
      first, *others = _yaml(inner, indent + '  ')
      lines += [f'{indent}- {first.lstrip()}', *others]
    else:
      lines.append(f'{indent}- {json.dumps(inner)}')
  return lines
