"""The exported files of a run, before they are evaluated: all there, and none damaged."""

from __future__ import annotations

import json
from pathlib import Path

import tf_keras as keras

from secateurs.learners.run.files import RunFiles
from secateurs.utils.deploy import TFLiteModel
from secateurs.utils.deploy.files.export_files import ENDINGS
from secateurs.utils.deploy.runtime.sound_files import require_sound
from secateurs.utils.errors import UserError, first_line

_EVALUATED = (
  'tflite',
  'tflite_int8',
  'tflite_sparse',
  'tflite_quant',
  'tflite_fp16',
  'tflite_dynamic',
)


def usable_files(files: RunFiles, model: keras.Model) -> dict[str, Path]:
  """The .tflite files of a run that can be evaluated, by format, each run once in a separate process.

  Args:
    files: of the run.
    model: what they were exported from.

  Raises:
    UserError: one that the report lists is not there, or does not run, or gives outputs of other
      shapes than the model.
  """
  exported = _none_missing(files)
  paths = {kind: exported[kind] for kind in _EVALUATED if kind in exported}
  require_sound(paths.values())
  expected = [tuple(tensor.shape[1:]) for tensor in model.outputs]
  for path in paths.values():
    found = TFLiteModel(path).output_shapes
    if len(found) != len(expected) or not all(map(_fits, found, expected)):
      raise UserError(
        f'{path} gives outputs of shape {" and ".join(map(str, found))}, but those of the .keras file '
        f'are {" and ".join(map(str, expected))}: it is damaged or of another network, export the '
        'model again (--exec_mode export).'
      )
  return paths


def _none_missing(files: RunFiles) -> dict[str, Path]:
  """The exported files; each that the last report lists must be there.

  Raises:
    UserError: one is not, or the report is damaged.
  """
  exported, report = files.exported(), files.log_dir / 'report.json'
  try:
    listed = json.loads(report.read_text('utf-8')).get('files') or {} if report.is_file() else {}
    if not isinstance(listed, dict):
      raise ValueError(f'its files are {listed!r}')
  except (OSError, ValueError, AttributeError, RecursionError) as error:
    raise UserError(
      f'{report} is damaged ({first_line(error)}), but the list of exported files was expected in it: '
      'run the same command with --exec_mode train, which writes it again without training.'
    ) from error
  missing = [kind for kind in listed if kind in ENDINGS and kind not in exported]
  if missing:
    names = ', '.join(files.save_path_eval.name + ENDINGS[kind] for kind in missing)
    raise UserError(
      f'{names} of {files.save_path_eval.parent} is not there, but the last report lists it: run the '
      'same command with --exec_mode train, which exports and measures again without training.'
    )
  return exported


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
  return len(shape) == len(expected) and all(
    size is None or size == other for size, other in zip(expected, shape)
  )
