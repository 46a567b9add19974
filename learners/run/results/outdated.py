"""Which results of a finished run are not there, or not those that its flags ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateurs.learners.run.files import RunFiles, with_ending
from secateurs.learners.run.settings import Settings
from secateurs.utils.deploy.int8.steps import NOTHING
from secateurs.utils.training import distributed

_CALIBRATION = 'nb_smpls_calib'


def reasons(
  settings: Settings, files: RunFiles, report: Mapping[str, Any], *, sparse: bool
) -> list[str]:
  """Why a finished run is to be measured again, as parts of a sentence; none where its report holds.

  Args:
    settings: what is wanted.
    files: where the run's files are.
    report: of the run; what it says to have been left out is not missing.
    sparse: whether a file without the zeros is wanted.
  """
  lacking = _missing(settings, files, report, sparse)
  found = [f'there is no {", ".join(sorted(lacking))} yet'] if lacking else []
  for name, (before, now) in _other_flags(settings, report).items():
    found.append(f'--{name} was {"not given" if before is None else before} and is {now} now')
  return found


def _missing(
  settings: Settings, files: RunFiles, report: Mapping[str, Any], sparse: bool
) -> set[str]:
  """Kinds of files of the compressed model, and the original's file, that are wanted and not there."""
  block = report['compressed']
  kinds = {*settings.run.formats} - {'tflite_int8'}
  kinds |= {'tflite_sparse'} if sparse else set()
  kinds |= {'tflite_int8'} if settings.wants_int8 else set()
  lacking = kinds - set(distributed.from_chief(files.exported))
  if settings.wants_int8 and 'int8' not in block:
    lacking.add('tflite_int8')
  lacking -= set(block.get('left_out', ()))
  original = files.original_keras
  if not distributed.from_chief(original.is_file):
    lacking.add(original.name)
  return lacking


def _other_flags(settings: Settings, report: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Flags that files and figures depend on, with the report's value and the one that is wanted now.

  Without --bench_device or --bench_streams nothing is asked for, and what was measured may stay.
  """
  run, post_training = settings.run, not settings.quantization.enbl_qat
  names = ['bench_threads', 'bench_cores']
  names += ['bench_streams'] if run.bench_streams is not None else []
  names += ['bench_device'] if settings.wants_int8 and run.bench_device is not None else []
  names += [_CALIBRATION] if settings.wants_int8 or 'quant' in report['compressed'] else []
  if run.wants_int8 and post_training:
    names += ['int8_repair', 'max_drop'] if run.int8_repair != NOTHING else ['int8_repair']
  usual, flags = settings.default_flags(), report['flags']
  pairs = {name: (flags.get(name, usual[name]), getattr(run, name)) for name in names}
  return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def original_lacks(
  settings: Settings,
  files: RunFiles,
  block: Mapping[str, Any],
  report: Mapping[str, Any] | None = None,
) -> bool:
  """Whether a file or figure of the original is wanted and not there.

  Args:
    settings: what is wanted.
    files: where the run's files are.
    block: of the original.
    report: in which the run ended before, if it did.
  """
  int8 = block.get('int8')
  if settings.run.wants_int8 and 'tflite_int8' not in block.get('left_out', ()):
    if int8 is None or (report and _CALIBRATION in _other_flags(settings, report)):
      return True
    device = settings.run.bench_device
    if device is not None and (int8.get('npu') or {}).get('device') != device:
      return True
  endings = ['.keras'] + (['.tflite'] if 'tflite_bytes' in block else [])
  paths = [with_ending(files.original_prefix, ending) for ending in endings]
  return distributed.from_chief(lambda: not all(path.is_file() for path in paths))
