"""Finds out whether .tflite files can be run, before this process opens them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from secateurs.utils import memory
from secateurs.utils.deploy.runtime import trial_run
from secateurs.utils.deploy.runtime.refusals import refused
from secateurs.utils.errors import UserError

_SECONDS = 900.0  # For all files of a process: large networks take their time on a busy machine.
_RAN = trial_run.RAN.encode()

_known: set[tuple[str, int, int, bool]] = set()  # Found well by this process, or written by it.


def require_sound(paths: Iterable[str | os.PathLike], *, every_kernel: bool = False) -> None:
  """Runs .tflite files in a separate process, each once, except for those that have run.

  Args:
    paths: files; those that are not there pass.
    every_kernel: also with the kernels that layers are compared with.

  Raises:
    UserError: one cannot be run to its end.
  """
  for _, error in refusals(paths, every_kernel=every_kernel):
    raise error


def refusals(
  paths: Iterable[str | os.PathLike], *, every_kernel: bool = False
) -> Iterator[tuple[Path, UserError]]:
  """The files that cannot be run to their ends, in their order, each with its refusal.

  Args:
    paths: as of `require_sound`.
    every_kernel: as there.
  """
  states = {path: _state(path, every_kernel) for path in map(Path, paths) if path.is_file()}
  pending = [path for path, state in states.items() if state not in _known]
  while pending:
    reasons, end = _tried(pending, every_kernel)
    if reasons is None:  # Nothing can be tried here.
      return
    if len(reasons) < len(pending) and not any(reasons):
      # After a damaged file a sound one could end the process: it is the first of the next.
      reasons.append(end)
    for path, reason in zip(pending, reasons, strict=False):
      if reason is None:
        _known.add(states[path])
      else:
        yield path, refused(path, reason)
    pending = pending[len(reasons) :]


def _tried(paths: Sequence[Path], every_kernel: bool) -> tuple[list[str | None] | None, str]:
  """Why each of the first files is refused, None where it is not; and how the process has ended.

  Returns:
    The reasons are fewer than the files if one of them ends the process, and None without a runtime.
  """
  job = {
    'files': [str(path.resolve()) for path in paths],
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
  lines = out.splitlines()
  if b'ready' not in lines:
    return None, ''
  found = [line.removeprefix(_RAN) for line in lines if line.startswith(_RAN)]
  return [json.loads(line) for line in found], _reason(code, said)


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
