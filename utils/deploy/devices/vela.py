"""What a file takes on an Ethos-U NPU, as Vela, Arm's compiler for them, estimates it.

Nothing runs: Vela schedules the file for a configuration and counts cycles, with its default memories.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import importlib.metadata
import importlib.util
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateurs.utils.errors import UserError

_OPERATORS = re.compile(r'(CPU|NPU) operators = (\d+)')
_ON_CPU = re.compile(r"^(?:Warning|Info) \([^)]*\) operator: (\w+), ofm: '([^']*)'", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class NpuCost:
  """Estimates for one inference.

  Attributes:
    device: configuration, such as ethos-u55-128.
    cycles: in total.
    npu_cycles: of those, what the NPU computes.
    ms: milliseconds at the configuration's clock; operators on the CPU are not in it.
    sram_bytes, flash_bytes: memory.
    npu_operators, cpu_operators: how many operators run where.
    on_cpu: kinds and names of those on the CPU, as far as Vela names them.
  """

  device: str
  cycles: int
  npu_cycles: int
  ms: float
  sram_bytes: int
  flash_bytes: int
  npu_operators: int
  cpu_operators: int
  on_cpu: tuple[str, ...]

  def block(self) -> dict[str, Any]:
    """In plain types."""
    return {**dataclasses.asdict(self), 'on_cpu': list(self.on_cpu)}

  def __str__(self) -> str:
    where = f'{self.npu_operators} operators on the NPU, {self.cpu_operators} on the CPU'
    return (
      f'{self.cycles:,} cycles, {self.ms:.3f} ms, {self.sram_bytes / 1024:.1f} KiB SRAM, '
      f'{self.flash_bytes / 1024:.1f} KiB flash, {where}'
    )


def is_installed() -> bool:
  """Whether Vela is."""
  return importlib.util.find_spec('ethosu') is not None


def version() -> str:
  """Name and version of the compiler."""
  return f'ethos-u-vela {importlib.metadata.version("ethos-u-vela")}'


def devices() -> list[str]:
  """The configurations that Vela knows.

  Raises:
    UserError: it is not installed.
  """
  _require_library()
  from ethosu.vela.architecture_features import Accelerator

  return list(Accelerator.member_list())


def require_device(device: str, flag: str = '--bench_device') -> None:
  """Checks the name of a configuration, which a flag gave.

  Raises:
    UserError: Vela is not installed, or does not know it.
  """
  known = devices()
  if device not in known:
    raise UserError(f'{flag} takes one of {", ".join(known)}, but {device!r} was given.')


def npu_cost(path: str | os.PathLike, device: str) -> NpuCost:
  """Compiles a full-integer .tflite file, and reads what Vela says of it.

  Raises:
    UserError: Vela is not installed, does not know the device, or refuses the file.
  """
  require_device(device)
  with tempfile.TemporaryDirectory() as folder:
    copy = Path(folder) / 'network.tflite'
    shutil.copyfile(path, copy)
    text, code = _run([str(copy), '--accelerator-config', device, '--output-dir', folder])
    tables = list(Path(folder).glob('*_summary_*.csv'))
    if code or not tables:
      lines = [line for line in text.splitlines() if line.strip()]
      errors = [line for line in lines if 'Error' in line] or lines or ['no reason given']
      raise UserError(
        f'Vela cannot compile {path} for {device} ({errors[-1].strip()[:200]}): give a full-integer '
        'file with a batch of 1.'
      )
    with tables[0].open(encoding='utf-8', newline='') as table:
      row = next(csv.DictReader(table))
  counts = dict(_OPERATORS.findall(text))
  on_cpu = [f'{kind} {name.split(";")[0]}' for kind, name in _ON_CPU.findall(text)]
  return NpuCost(
    device,
    round(float(row['cycles_total'])),
    round(float(row['cycles_npu'])),
    1000 * float(row['inference_time']),
    round(1024 * float(row['sram_memory_used'])),
    round(
      1024 * (float(row['off_chip_flash_memory_used']) + float(row['on_chip_flash_memory_used']))
    ),
    int(counts.get('NPU', 0)),
    int(counts.get('CPU', 0)),
    tuple(dict.fromkeys(on_cpu)),
  )


def _run(arguments: list[str]) -> tuple[str, int]:
  """Vela's text and exit code; it runs in this process, which takes a fifth of a second."""
  captured, limit = io.StringIO(), sys.getrecursionlimit()
  with (
    contextlib.redirect_stdout(captured),
    contextlib.redirect_stderr(captured),
    _native_text() as native,
    _own_numbers(),
  ):
    try:
      code = _main()(arguments)
    except SystemExit as error:
      code = error.code if isinstance(error.code, int) else 1
    except Exception as error:  # Vela raises many types for what it cannot schedule.
      print(f'Error: {type(error).__name__}: {error}')
      code = 1
    finally:
      sys.setrecursionlimit(limit)
  return captured.getvalue() + '\n'.join(['', *native]), int(code or 0)


@contextlib.contextmanager
def _native_text() -> Iterator[list[str]]:
  """Lines that compiled code prints past Python's streams; filled when the block ends."""
  lines: list[str] = []
  with tempfile.TemporaryFile() as file:
    saved = [os.dup(number) for number in (1, 2)]
    for number in (1, 2):
      os.dup2(file.fileno(), number)
    try:
      yield lines
    finally:
      for number, old in zip((1, 2), saved, strict=True):
        os.dup2(old, number)
        os.close(old)
      file.seek(0)
      lines.extend(file.read().decode('utf-8', 'replace').splitlines())


@functools.cache
def _main() -> Any:
  from ethosu.vela.vela import main

  return main


@contextlib.contextmanager
def _own_numbers() -> Iterator[None]:
  """Vela changes how NumPy treats errors; that is put back."""
  import numpy as np

  before = np.geterr()
  try:
    yield
  finally:
    np.seterr(**before)


def _require_library() -> None:
  if not is_installed():
    raise UserError(
      "NPUs are estimated with Vela, which is not installed: pip install -e '.[ethos]'."
    )
