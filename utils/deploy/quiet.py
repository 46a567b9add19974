"""Keeps TensorFlow's and TensorFlow Lite's own chatter off the user's terminal."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

from absl import logging as absl_logging


@contextlib.contextmanager
def quiet_native() -> Iterator[None]:
  """Silences native log lines, absl warnings and Python warnings inside the block.

  The converter and the interpreter write from C++ straight to file descriptor 2, where no Python
  logger can catch them; the descriptor is pointed at the null device and put back afterwards.
  Exceptions pass through unchanged; Python's own errors carry all that a caller needs.
  Descriptor 2 belongs to the whole process: keep the block short and print nothing in it.
  """
  verbosity = absl_logging.get_verbosity()
  with contextlib.suppress(OSError, ValueError):
    sys.stderr.flush()
  try:
    saved = os.dup(2)
  except OSError:  # a process without a standard error has nothing to silence
    saved = None
  try:
    if saved is not None:
      with open(os.devnull, 'wb') as sink:
        os.dup2(sink.fileno(), 2)
    absl_logging.set_verbosity(absl_logging.ERROR)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  finally:
    absl_logging.set_verbosity(verbosity)
    if saved is not None:
      os.dup2(saved, 2)
      os.close(saved)
