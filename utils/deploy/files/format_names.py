"""The formats that --export_formats names."""

from __future__ import annotations

from secateurs.utils.errors import UserError

ALWAYS = ('keras', 'tflite')
FORMATS = (
  *ALWAYS,
  'tflite_fp16',
  'tflite_dynamic',
  'tflite_int8',
  'pb',
  'saved_model',
  'onnx',
)


def parsed_formats(text: str) -> list[str]:
  """Names of formats from a flag, with those that are always written, in a fixed order.

  Raises:
    UserError: a name that is no format.
  """
  names = [one.strip() for one in text.split(',') if one.strip()]
  unknown = [one for one in names if one not in FORMATS]
  if unknown:
    raise UserError(
      f'--export_formats takes some of {", ".join(FORMATS)} with commas between them, but '
      f'{unknown[0]!r} was given.'
    )
  return [one for one in FORMATS if one in names or one in ALWAYS]
