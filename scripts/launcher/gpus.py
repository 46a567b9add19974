"""Selects the GPUs of a job: the least busy ones."""

from __future__ import annotations

import shutil
import subprocess

from job import UsageError

_QUERY = ('--query-gpu=index,memory.used,utilization.gpu', '--format=csv,noheader,nounits')


def have_gpus() -> bool:
  """Returns whether this machine has Nvidia GPUs."""
  return shutil.which('nvidia-smi') is not None


def idle_gpus(number: int) -> list[str]:
  """Returns the indices of `number` GPUs, sorted by memory in use, then by load.

  The list is empty on a machine without GPUs; the job then runs on the CPU.

  Raises:
    UsageError: the machine has GPUs, but fewer than processes.
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
  """Parses a number of nvidia-smi; a value that is not available counts as zero."""
  try:
    return float(text)
  except ValueError:
    return 0.0
