"""Flatbuffers of .tflite files as objects, and as bytes again."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import numpy as np


def flatbuffer_tools() -> Any:
  """The module that reads flatbuffers: that of the newer schema, if it is installed."""
  if importlib.util.find_spec('ai_edge_litert') is not None:
    from ai_edge_litert.tools import flatbuffer_utils
  else:
    from tensorflow.lite.tools import flatbuffer_utils
  return flatbuffer_utils


def packed(model: Any) -> bytes:
  """A file from the objects of its flatbuffer."""
  for buffer in model.buffers:
    if buffer.data is not None:  # What is no array is packed byte by byte, in Python.
      buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
  return bytes(flatbuffer_tools().convert_object_to_bytearray(model))


def emptied(buffer: Any) -> Any:
  """A buffer without its data."""
  found = copy.copy(buffer)
  found.data = None
  return found
