"""Runs .tflite files on some inputs with all of their tensors in reach."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.runtime.interpreter import dequantize, open_interpreter, quantize
from secateurs.utils.errors import UserError
from secateurs.utils.quiet import quiet_native


class Runner:
  """One file on fixed inputs: it runs once, and then gives any tensor's values.

  All inputs are one call, where the graph can be resized; its tensors stay in memory.
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
      self._together = self._resized(len(given[0]))
    self._details = {one['name']: one for one in self._interpreter.get_tensor_details()}
    self._pieces: list[list[np.ndarray]] = [given]
    if not self._together:
      self._pieces = [[one[i : i + 1] for one in given] for i in range(len(given[0]))]
    self._ran = -1
    with _explained():
      self._run(0)

  def outputs(self) -> Any:
    """Real outputs, float32 [n, ...]; several in a tuple."""
    details = self._interpreter.get_output_details()
    return nested.one_or_all([self._values(one) for one in details])

  def tensor(self, name: str) -> np.ndarray | None:
    """Real values of a tensor, float32 [n, ...]; None where the file has none of that name."""
    details = self._details.get(name)
    return None if details is None else self._values(details)

  def _values(self, details: dict) -> np.ndarray:
    found = []
    for number in range(len(self._pieces)):
      self._run(number)
      values = self._interpreter.get_tensor(details['index'])
      scale, zero = details['quantization']
      if np.issubdtype(values.dtype, np.integer) and scale:
        values = dequantize(values, scale, zero)
      found.append(values)
    return found[0] if len(found) == 1 else np.concatenate(found)

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

  def _resized(self, batch: int) -> bool:
    """Whether the graph takes all samples in one call."""
    with contextlib.suppress(RuntimeError, ValueError):
      self._resize(batch)
      if all(one['shape'][0] == batch for one in self._interpreter.get_output_details()):
        return True
    self._resize(1)
    return batch == 1

  def _resize(self, batch: int) -> None:
    for one in self._interpreter.get_input_details():
      self._interpreter.resize_tensor_input(one['index'], [batch, *one['shape'][1:]])
    self._interpreter.allocate_tensors()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
  """Turns what the runtime raises on a file into a sentence."""
  try:
    yield
  except (RuntimeError, ValueError) as error:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip('.')
    raise UserError(
      f'the installed runtime cannot run a file that is quantised in part ({reason}): the '
      'other files are as good, or try --enbl_qat.'
    ) from error
