"""What the runtime raises on a .tflite file, as a sentence that names the file."""

from __future__ import annotations

import os
from typing import Any

from secateurs.utils.errors import UserError, first_line

RAISED = (ValueError, RuntimeError)
"""What the runtime raises; names of tensors that are no UTF-8 are among the former."""


def refused(path: str | os.PathLike, error: Exception | str) -> UserError:
  """The refusal of a file that cannot be run, or of which nothing can be read."""
  reason = error if isinstance(error, str) else first_line(error)
  return UserError(
    f'{path} does not run as a TensorFlow Lite model ({reason}): it is damaged, export the model '
    'again (--exec_mode export).'
  )


class ExplainedInterpreter:
  """An interpreter of a file whose methods raise sentences; what it has is what the runtime's has."""

  def __init__(self, interpreter: Any, path: str | os.PathLike) -> None:
    self._explained, self._path = interpreter, path

  def __getattr__(self, name: str) -> Any:
    method = getattr(self._explained, name)

    def call(*arguments: Any, **options: Any) -> Any:
      try:
        return method(*arguments, **options)
      except RAISED as error:
        raise refused(self._path, error) from error

    return call
