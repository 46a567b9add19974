"""Which operators of a .tflite file take the time: each is timed as a separate file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.int8.operators import layer_of
from secateurs.utils.deploy.latency_table.files import empty_content, runner
from secateurs.utils.deploy.pages.explorer import node_data, write_series
from secateurs.utils.deploy.runtime.timing import time_interleaved

_NB_FRAMES, _SECONDS = 10, 0.1  # Of each operator; seconds where the medians do not settle.
_EMPTY = 'empty'


@dataclasses.dataclass(frozen=True)
class OperatorTime:
  """One operator.

  Attributes:
    tensor: name of its output in the file.
    kind: such as CONV_2D.
    ms: median of its time on one sample, without the cost of a call.
  """

  tensor: str
  kind: str
  ms: float


def operator_times(content: bytes, nb_threads: int = 1) -> list[OperatorTime]:
  """Times the operators of a file alone, against each other, in the order in which they run.

  Together they take longer than the file, whose operators a delegate runs without returning. Left out
  is what makes no tensor, runs other graphs (a loop), or does not run on made-up inputs.

  Args:
    content: of a .tflite file.
    nb_threads: of the interpreter.
  """
  file, runs, known = OpenFile(content), {_EMPTY: runner(empty_content('float'), nb_threads)}, {}
  for op in file.operators:
    try:
      runs[str(op.number)] = runner(file.alone(op), nb_threads)
    except (RuntimeError, ValueError):
      continue
    known[str(op.number)] = op
  timed = time_interleaved(runs, nb_frames=_NB_FRAMES, seconds=_SECONDS)
  medians = {name: timing.median / 1e6 for name, timing in timed.items()}
  return [
    OperatorTime(file.name(op.outputs[0]), op.kind, max(medians[name] - medians[_EMPTY], 0.0))
    for name, op in known.items()
  ]


def slowest(times: Sequence[OperatorTime], most: int = 10) -> list[str]:
  """Lines about the operators that take longest, with their fraction of the sum of all."""
  total = sum(one.ms for one in times) or 1.0
  ordered = sorted(times, key=lambda one: -one.ms)[:most]
  return [
    f'{one.ms:8.4f} ms  {100 * one.ms / total:5.1f} %  {one.kind:<18} {layer_of(one.tensor, ())}'
    for one in ordered
  ]


def write_node_times(times: Sequence[OperatorTime], folder: Path) -> Path:
  """Writes `node_data_ms.json`, which colours the nodes of the file in Model Explorer."""
  return write_series(
    folder, 'ms', node_data({one.tensor: one.ms for one in times}, high_is_bad=True)
  )
