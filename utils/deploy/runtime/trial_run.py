"""Runs .tflite files once, as a separate program: `python trial_run.py JOB`.

A damaged file can end the process that opens it, or ask for any amount of memory. What happens here
happens in a process that may end. The job is JSON: `files`; `room`, the bytes of memory that may be
taken; `every_kernel`; and `folders`, in which the process that asks looks for packages. A line is
printed when the runtime is there, and one for each file: null, or why the runtime refuses it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from typing import Any

RAN = 'ran: '
_BATCHES = (1, 2)
_RESERVED = 2 << 30  # Addresses that the runtime and its threads reserve, and never fill.


def main(job: dict[str, Any]) -> None:
  """Runs all files with inputs of zeros, and prints what has become of each."""
  sys.path[:] = job['folders'] or sys.path
  interpreter, kinds = _runtime()
  _limit_memory(job['room'])
  print('ready', flush=True)
  for path in job['files']:
    reason = None
    try:
      _run(interpreter(path, num_threads=1))
      for options in _further_ways(kinds) if job['every_kernel'] else ():
        with contextlib.suppress(ValueError, RuntimeError):  # Not all files have such kernels.
          _run(interpreter(path, num_threads=1, **options))
    except Exception as error:  # Of many types.
      reason = _first_line(error)
    print(f'{RAN}{json.dumps(reason)}', flush=True)


def _runtime() -> tuple[Any, Any]:
  if importlib.util.find_spec('ai_edge_litert') is not None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    return Interpreter, OpResolverType
  from tensorflow.lite.python.interpreter import Interpreter, OpResolverType

  return Interpreter, OpResolverType


def _further_ways(kinds: Any) -> Iterator[dict[str, Any]]:
  """Options of the interpreters that tensors are compared in."""
  for kind in (kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES, kinds.BUILTIN_REF):
    yield {'experimental_op_resolver_type': kind, 'experimental_preserve_all_tensors': True}


def _run(interpreter: Any) -> None:
  import numpy as np

  for batch in _BATCHES:
    inputs = interpreter.get_input_details()
    if batch > 1:
      try:  # A graph may be built for single samples.
        for one in inputs:
          interpreter.resize_tensor_input(one['index'], [batch, *one['shape'][1:]])
        interpreter.allocate_tensors()
      except (ValueError, RuntimeError):
        return
    else:
      interpreter.allocate_tensors()
    for one in interpreter.get_input_details():
      interpreter.set_tensor(one['index'], np.zeros(one['shape'], one['dtype']))
    try:
      interpreter.invoke()
    except (ValueError, RuntimeError):
      if batch == 1:
        raise
      return
    for one in interpreter.get_output_details():
      interpreter.get_tensor(one['index'])
    for one in interpreter.get_tensor_details():
      with contextlib.suppress(ValueError):  # Not all keep their values.
        interpreter.get_tensor(one['index'])


def _limit_memory(room: int) -> None:
  """Where the system can, lets the process take so many bytes and no more."""
  with contextlib.suppress(ImportError, OSError, ValueError):
    import resource

    with open('/proc/self/statm', encoding='ascii') as file:
      taken = int(file.read().split()[0]) * resource.getpagesize()
    limit = taken + room + _RESERVED
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__


if __name__ == '__main__':
  try:
    main(json.loads(sys.argv[1]))
  except Exception as error:
    sys.exit(_first_line(error))
