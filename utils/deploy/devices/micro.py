"""The memory that a .tflite file really takes in TensorFlow Lite for Microcontrollers.

tflite-micro runs in a separate process: it prints what it finds, and ends the process at an error.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.errors import UserError

_NAMED = 3
_PROGRAM = """
import sys
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1])
interpreter.print_allocations()
"""
_LINES = {
  'bytes': re.compile(r'Arena allocation total (\d+) bytes'),
  'head_bytes': re.compile(r'Arena allocation head (\d+) bytes'),
}
_LACKING = re.compile(r"[Dd]idn't find op for builtin opcode '(\w+)'")


@dataclasses.dataclass(frozen=True)
class Arena:
  """What tflite-micro takes.

  Attributes:
    bytes: of the whole arena; None where the file does not run.
    head_bytes: of its activations and scratch buffers.
    lacking: kinds of operators that it has no kernel for.
    reason: why the file does not run, in a line.
  """

  bytes: int | None
  head_bytes: int | None
  lacking: tuple[str, ...]
  reason: str | None


def is_installed() -> bool:
  """Whether tflite-micro is."""
  return importlib.util.find_spec('tflite_micro') is not None


def arena(path: str | os.PathLike) -> Arena:
  """Runs tflite-micro's own count on a file with a static batch of 1.

  Raises:
    UserError: tflite-micro is not installed.
  """
  if not is_installed():
    raise UserError(
      "The arena is measured with tflite-micro, which is not installed: pip install -e '.[micro]'."
    )
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, os.fspath(path)],
    capture_output=True,
    text=True,
    errors='replace',
    check=False,
  )
  text = done.stdout + done.stderr
  found = {name: pattern.search(text) for name, pattern in _LINES.items()}
  numbers = {name: None if one is None else int(one[1]) for name, one in found.items()}
  lacking = tuple(sorted(set(_LACKING.findall(text))))
  if done.returncode == 0 and numbers['bytes'] is not None:
    return Arena(**numbers, lacking=(), reason=None)
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  reason = _without_kernel(path, lacking) if lacking else (lines or ['no reason given'])[-1]
  return Arena(None, None, lacking, reason[:300])


def _without_kernel(path: str | os.PathLike, kinds: Collection[str]) -> str:
  """Names the layers of the operators that tflite-micro lacks, and says what to do."""
  file = OpenFile(Path(path).read_bytes(), path)
  found = [
    f'{op.kind} of {file.name(op.outputs[0]).split(";")[0]}'
    for op in file.operators
    if op.kind in kinds
  ]
  named = ', '.join(found[:_NAMED] or sorted(kinds))
  return f'it has no kernel for {named}: replace that layer by one of other operators'
