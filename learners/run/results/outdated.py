"""Which results of a finished run are not there, or not those that its flags ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateurs.learners.run.files import RunFiles, with_ending
from secateurs.learners.run.results import int8_repair
from secateurs.learners.run.settings import Settings
from secateurs.utils.training import distributed


def missing(
  settings: Settings, files: RunFiles, report: Mapping[str, Any], *, sparse: bool
) -> set[str]:
  """Kinds of files of the compressed model, and the original's file, that are wanted and not there.

  Args:
    settings: which kinds are wanted.
    files: where they are.
    report: of the run; what it says to have been left out is not missing.
    sparse: whether a file without the zeros is wanted.
  """
  block = report['compressed']
  kinds = {*settings.run.formats} - {'tflite_int8'}
  kinds |= {'tflite_sparse'} if sparse else set()
  kinds |= {'tflite_int8'} if settings.wants_int8 else set()
  lacking = kinds - set(distributed.from_chief(files.exported))
  if settings.wants_int8 and 'int8' not in block:
    lacking.add('tflite_int8')
  lacking -= set(block.get('left_out', ()))
  if int8_repair.is_outdated(settings, report):
    lacking.add('int8 file of that repair')
  original = files.original_keras
  if not distributed.from_chief(original.is_file):
    lacking.add(original.name)
  return lacking


def original_lacks(settings: Settings, files: RunFiles, block: Mapping[str, Any]) -> bool:
  """Whether a file of the original, of which `block` reports, is wanted and not there."""
  if (
    settings.run.wants_int8
    and 'int8' not in block
    and 'tflite_int8' not in block.get('left_out', ())
  ):
    return True
  endings = ['.keras'] + (['.tflite'] if 'tflite_bytes' in block else [])
  paths = [with_ending(files.original_prefix, ending) for ending in endings]
  return distributed.from_chief(lambda: not all(path.is_file() for path in paths))
