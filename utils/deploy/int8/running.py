"""Runs .tflite files on some inputs with all of their tensors in reach."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.runtime.interpreter import dequantize, open_interpreter, quantize
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.quiet import quiet_native

MAX_BYTES = 1 << 29
"""What the tensors of one call may take, unless one sample's take more."""


class Runner:
  """One file on fixed inputs: it runs once, and then gives any tensor's values.

  All inputs are one call, where the graph can be resized and its tensors, which stay in memory, fit;
  else they are run in pieces, again for each tensor.
  """

  def __init__(self, content: bytes, images: Any) -> None:
    """Runs a file.

    Args:
      content: of the file.
      images: inputs [n, ...], n at least 1.

    Raises:
      UserError: the installed runtime cannot run the file.
    """
    given = [np.asarray(one) for one in nested.parts(images)]
    with _explained(), quiet_native(), warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Of the memory that keeping all tensors takes.
      self._interpreter = open_interpreter(content, reference=False)
      size = self._sized(len(given[0]))
    self._details = {one['name']: one for one in self._interpreter.get_tensor_details()}
    starts = range(0, len(given[0]), size)
    self._pieces = [[one[i : i + size] for one in given] for i in starts]
    self._ran = -1
    with _explained():
      self._run(0)

  def outputs(self) -> Any:
    """Real outputs, float32 [n, ...]; several in a tuple."""
    return nested.one_or_all(self._values(self._interpreter.get_output_details()))

  def tensor(self, name: str) -> np.ndarray | None:
    """Real values of a tensor, float32 [n, ...]; None where the file has none of that name."""
    details = self._details.get(name)
    return None if details is None else self._values([details])[0]

  def pieces(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Real values of some tensors by name, of as many samples at a time as are run in one call."""
    for number in range(len(self._pieces)):
      self._run(number)
      yield {name: self._real(self._details[name]) for name in names}

  def _values(self, wanted: Sequence[dict]) -> list[np.ndarray]:
    """Real values of some tensors by their details."""
    found = []
    for number in range(len(self._pieces)):
      self._run(number)
      found.append([self._real(details) for details in wanted])
    return [one[0] if len(one) == 1 else np.concatenate(one) for one in zip(*found, strict=True)]

  def _real(self, details: dict) -> np.ndarray:
    values = self._interpreter.get_tensor(details['index'])
    scale, zero = details['quantization']
    if np.issubdtype(values.dtype, np.integer) and scale:
      return dequantize(values, scale, zero)
    return values

  def _run(self, number: int) -> None:
    if number == self._ran:
      return
    for details, values in zip(
      self._interpreter.get_input_details(), self._pieces[number], strict=True
    ):
      if np.issubdtype(details['dtype'], np.integer) and details['quantization'][0]:
        values = quantize(values, *details['quantization'], details['dtype'])
      self._interpreter.set_tensor(details['index'], np.asarray(values, details['dtype']))
    self._interpreter.invoke()
    self._ran = number

  def _sized(self, nb_samples: int) -> int:
    """Resizes the graph to as many samples as one call takes, and gives their number."""
    self._resize(1)
    batch = samples_at_once(nb_samples, self._sample_bytes())
    with contextlib.suppress(RuntimeError, ValueError):
      self._resize(batch)
      if all(one['shape'][0] == batch for one in self._interpreter.get_output_details()):
        return batch
    self._resize(1)
    return 1

  def _sample_bytes(self) -> int:
    """Bytes of all that operators make of one sample."""
    operators = self._interpreter._get_ops_details()
    made = {int(number) for op in operators for number in op['outputs']}
    return sum(
      int(np.prod(one['shape'])) * np.dtype(one['dtype']).itemsize
      for one in self._interpreter.get_tensor_details()
      if one['index'] in made and one['dtype'] is not np.bytes_
    )

  def _resize(self, batch: int) -> None:
    for one in self._interpreter.get_input_details():
      self._interpreter.resize_tensor_input(one['index'], [batch, *one['shape'][1:]])
    self._interpreter.allocate_tensors()


def samples_at_once(nb_samples: int, sample_bytes: int) -> int:
  """The largest divisor of a number of samples whose tensors take at most `MAX_BYTES`."""
  most = min(max(MAX_BYTES // max(sample_bytes, 1), 1), nb_samples)
  return next(size for size in range(most, 0, -1) if nb_samples % size == 0)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
  """Turns what the runtime raises on a file into a sentence."""
  try:
    yield
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f'the installed runtime cannot run a file that is quantised in part ({first_line(error)}): the '
      'other files are as good, or try --enbl_qat.'
    ) from error
