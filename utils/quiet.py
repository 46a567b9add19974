"""Loads TensorFlow without its start-up messages."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile


def quiet_tensorflow() -> None:
  """Imports TensorFlow and tf_keras with their native messages kept off the terminal.

  The messages are written from C++ to file descriptor 2 before any log level is in force. They are
  held in a temporary file and shown only if the import fails.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  sys.stderr.flush()
  saved = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    failed = True
    try:
      for name in ('tensorflow', 'tf_keras'):
        importlib.import_module(name)
      failed = False
    finally:
      sys.stderr.flush()
      os.dup2(saved, 2)
      os.close(saved)
      if failed:
        held.seek(0)
        sys.stderr.write(held.read().decode(errors='replace'))
  from absl import logging

  logging.set_verbosity(logging.ERROR)
