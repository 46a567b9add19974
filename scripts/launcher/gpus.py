"""Which GPUs a job gets: those that do the least."""

from __future__ import annotations

import shutil
import subprocess

from job import UsageError

_QUERY = ('--query-gpu=index,memory.used,utilization.gpu', '--format=csv,noheader,nounits')


def have_gpus() -> bool:
  """Whether this machine has GPUs of Nvidia's."""
  return shutil.which('nvidia-smi') is not None


def idle_gpus(number: int) -> list[str]:
  """Indices of so many GPUs, those with the least memory in use and the least to do first.

  Empty without GPUs: then the job runs on the CPU.

  Raises:
    UsageError: there are GPUs, but fewer than processes.
  """
  if not have_gpus():
    return []
  found = subprocess.run(['nvidia-smi', *_QUERY], capture_output=True, text=True, check=False)
  rows = [line.split(',') for line in found.stdout.splitlines() if line.count(',') == 2]
  if found.returncode or not rows:
    return []
  if len(rows) < number:
    raise UsageError(f'-n asks for {number} processes, but this machine has {len(rows)} GPUs.')
  busy = {index.strip(): (_number(memory), _number(load)) for index, memory, load in rows}
  return sorted(busy, key=lambda index: (*busy[index], int(index)))[:number]


def _number(text: str) -> float:
  """A figure of nvidia-smi's; what it cannot tell counts as none."""
  try:
    return float(text)
  except ValueError:
    return 0.0
