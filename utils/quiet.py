"""Keeps TensorFlow's and TensorFlow Lite's own chatter off the user's terminal."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from logging import getLogger
from typing import IO

from secateurs.utils import memory


def quiet_tensorflow() -> None:
  """Imports TensorFlow and tf_keras without their start-up messages, for work in little memory.

  See `memory.shared_with_tensorflow`. The messages are written from C++ before any log level is in
  force. They are held back and shown only if the import fails.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  memory.shared_with_tensorflow()
  with tempfile.TemporaryFile() as held:
    try:
      with _standard_error_to(held):
        for name in ('tensorflow', 'tf_keras'):
          importlib.import_module(name)
    except BaseException:
      held.seek(0)
      sys.stderr.write(held.read().decode(errors='replace'))
      raise
  from absl import logging

  logging.set_verbosity(logging.ERROR)
  # Measuring several models traces one function several times, which TensorFlow warns of.
  getLogger('tensorflow').setLevel('ERROR')


@contextlib.contextmanager
def quiet_native() -> Iterator[None]:
  """Silences native log lines, absl warnings and Python warnings inside the block.

  The converter and the interpreter write from C++, where no Python logger can catch them. Exceptions
  pass through unchanged; Python's own errors carry all that a caller needs. Standard error belongs to
  the whole process: keep the block short and print nothing in it.
  """
  from absl import logging

  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    with (
      open(os.devnull, 'wb') as sink,
      _standard_error_to(sink),
      warnings.catch_warnings(),
    ):
      warnings.simplefilter('ignore')
      yield
  finally:
    logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _standard_error_to(file: IO[bytes]) -> Iterator[None]:
  """Points file descriptor 2 at a file and puts it back; a process without one has nothing to do."""
  with contextlib.suppress(OSError, ValueError):
    sys.stderr.flush()
  try:
    saved = os.dup(2)
  except OSError:
    yield
    return
  try:
    os.dup2(file.fileno(), 2)
    yield
  finally:
    with contextlib.suppress(OSError, ValueError):
      sys.stderr.flush()
    os.dup2(saved, 2)
    os.close(saved)
