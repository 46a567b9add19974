"""Finds out whether .tflite files can be run, before this process opens them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from secateurs.utils import memory
from secateurs.utils.deploy.runtime import trial_run
from secateurs.utils.deploy.runtime.refusals import refused

_SECONDS = 900.0  # For all files: a large network takes its time on a busy machine.

_known: set[tuple[str, int, int, bool]] = set()  # Found well by this process, or written by it.


def require_sound(paths: Iterable[str | os.PathLike], *, every_kernel: bool = False) -> None:
  """Runs .tflite files in a separate process, each once, except for those that have run.

  Args:
    paths: files; those that are not there pass.
    every_kernel: also with the kernels that layers are compared with.

  Raises:
    UserError: one cannot be run to its end.
  """
  states = {path: _state(path, every_kernel) for path in map(Path, paths) if path.is_file()}
  unknown = [path for path, state in states.items() if state not in _known]
  if not unknown:
    return
  job = {
    'files': [str(path.resolve()) for path in unknown],
    'room': memory.free(),
    'every_kernel': every_kernel,
    'folders': sys.path,
  }
  command = [sys.executable, '-I', trial_run.__file__, json.dumps(job)]
  try:
    done = subprocess.run(
      command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
    )
    out, code, said = done.stdout, done.returncode, done.stderr
  except subprocess.TimeoutExpired as error:
    out, code, said = error.stdout or b'', None, b''
  lines = out.split()
  well = lines.count(b'well')
  _known.update(states[path] for path in unknown[:well])
  if b'ready' in lines and well < len(unknown):
    raise refused(unknown[well], _reason(code, said))


def note_sound(path: str | os.PathLike) -> None:
  """Notes that a file was written, and run, by this process."""
  _known.add(_state(Path(path), False))


def _state(path: Path, every_kernel: bool) -> tuple[str, int, int, bool]:
  stat = path.stat()
  return str(path.resolve()), stat.st_size, stat.st_mtime_ns, every_kernel


def _reason(code: int | None, said: bytes) -> str:
  if code is None:
    return f'it is not at its end after {_SECONDS:.0f} s'
  if code < 0:
    try:
      name = signal.Signals(-code).name
    except ValueError:
      name = f'signal {-code}'
    return f'it ends the process that runs it by {name}'
  lines = said.decode(errors='replace').strip().splitlines()
  return lines[-1][:200].rstrip('.') if lines else f'status {code}'
