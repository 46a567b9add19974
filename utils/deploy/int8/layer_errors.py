"""What each layer costs in 8 bits: alone, and when all others are in 8 bits and it is not."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.int8.operators import layer_of
from secateurs.utils.deploy.int8.recipes import (
  FLOAT,
  Ranges,
  layers_of,
  quantized,
  quantized_alone,
)
from secateurs.utils.deploy.int8.running import MAX_BYTES, Runner
from secateurs.utils.errors import UserError

Divergence = Callable[[Any, Any], np.ndarray]
"""How far outputs lie from original ones, for each sample, float [n]; zero where they are equal."""

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Passes things on, given their number and what is done, and shows how far it is."""

_MOST_IMAGES, _LEAST_IMAGES = 16, 2
_BUDGET = 4e10  # Values of activations over all runs; about half a minute of a small network.
_SECONDS, NB_WORST = 60.0, 16
_MOST_DB = 120.0


@dataclasses.dataclass(frozen=True)
class LayerError:
  """One layer in 8 bits.

  Attributes:
    layer: name in the network.
    operator: kind of the operator in the file.
    snr_db: signal-to-noise ratio of its output with it alone in 8 bits, in decibels, at most 120;
      None where its file has no such tensor.
    alone: divergence of the network's outputs with it alone in 8 bits.
    rest: the same with all layers but this one in 8 bits; None where it was not measured.
    tensor: name of its output in the file.
    scope: of the operator in the file.
  """

  layer: str
  operator: str
  snr_db: float | None
  alone: float
  rest: float | None
  tensor: str
  scope: str


@dataclasses.dataclass(frozen=True)
class Errors:
  """What `layer_errors` found.

  Attributes:
    layers: those that cost most alone first.
    all: divergence with all layers in 8 bits.
    nb_images: over how many images.
  """

  layers: list[LayerError]
  all: float
  nb_images: int

  def block(self) -> dict[str, Any]:
    """For a report, in plain types."""
    rows = [dataclasses.asdict(one) for one in self.layers]
    for row in rows:
      row.pop('scope')
    return {'layers': rows, 'all': self.all, 'nb_images': self.nb_images}


def errors_alone(
  content: bytes,
  ranges: Ranges,
  images: Any,
  layers: Sequence[str] = (),
  divergence: Divergence | None = None,
  watch: Watch = lambda items, total, work: items,
) -> list[LayerError]:
  """Measures each layer of a float file that has a form in 8 bits, with it alone in them.

  An integer file is made and run for each layer, on few images (2 to 16, by the size of the network's
  activations).

  Args:
    content: of the float file.
    ranges: of its activations, which give the steps of the integers.
    images: inputs [n, ...].
    layers: names of the network's layers in order, for names.
    divergence: of the task; default: `relative_error`.
    watch: passes on what is worked on, and shows how far it is.

  Returns:
    The layers that cost most first.

  Raises:
    UserError: ai-edge-quantizer is not installed or refuses the file.
  """
  file, divergence = OpenFile(content), divergence or relative_error
  chosen = layers_of(file)
  original = Runner(content, _few(file, chosen, images))
  wanted, found = original.outputs(), []
  for op in watch(chosen, len(chosen), 'layers in 8 bits'):
    scope, name = file.scope(op), file.name(op.outputs[0])
    try:
      made = quantized_alone(content, ranges, [scope])
      alone = Runner(made, _few(file, chosen, images))
    except (UserError, RuntimeError, ValueError):
      continue  # The library has no form of it: it stays float in any case.
    found.append(
      LayerError(
        layers[-1] if layers and op.outputs[0] in file.outputs else layer_of(name, layers),
        op.kind,
        snr_db(original.tensor(name), alone.tensor(name)),
        mean(divergence(wanted, alone.outputs())),
        None,
        name,
        scope,
      )
    )
  return sorted(found, key=lambda one: -one.alone)


def layer_errors(
  content: bytes,
  ranges: Ranges,
  images: Any,
  layers: Sequence[str] = (),
  divergence: Divergence | None = None,
  watch: Watch = lambda items, total, work: items,
  *,
  known: Sequence[LayerError] | None = None,
  seconds: float = _SECONDS,
) -> Errors:
  """Measures each layer alone in 8 bits, and with all but it in 8 bits.

  Two integer files are made and run for each layer, which is quadratic in layers: once the time is
  over, only the 16 layers that cost most get the second figure.

  Args:
    content: of the float file; this and what follows as of `errors_alone`.
    ranges: of its activations.
    images: inputs [n, ...].
    layers: names of the network's layers.
    divergence: of the task.
    watch: shows how far it is.
    known: what `errors_alone` gave for the same file and ranges.
    seconds: the time.

  Raises:
    UserError: ai-edge-quantizer is not installed or refuses the file.
  """
  began = time.monotonic()
  if known is None:
    known = errors_alone(content, ranges, images, layers, divergence, watch)
  file, divergence = OpenFile(content), divergence or relative_error
  images = _few(file, layers_of(file), images)
  wanted, found = Runner(content, images).outputs(), list(known)

  def apart(bits: dict[str, int]) -> float:
    return mean(divergence(wanted, Runner(quantized(content, ranges, bits), images).outputs()))

  for place, one in watch(enumerate(known), len(known), 'all layers but one in 8 bits'):
    if place >= NB_WORST and time.monotonic() - began > seconds:
      break
    with contextlib.suppress(UserError, RuntimeError, ValueError):
      found[place] = dataclasses.replace(one, rest=apart({one.scope: FLOAT}))
  return Errors(found, apart({}), nested.size(images))


def _few(file: OpenFile, chosen: Sequence[Any], images: Any) -> Any:
  return nested.rows(images, slice(nb_images(file, len(chosen))))


def nb_images(file: OpenFile, nb_layers: int) -> int:
  """How many images are run: 16, fewer where two runs of each layer would take long."""
  sizes = [
    np.prod(file.shape(number), dtype=float) for op in file.operators for number in op.outputs
  ]
  values = max(sum(sizes), 1.0)
  kernels = sum(
    np.prod(file.shape(op.inputs[1]), dtype=float) for op in file.operators if len(op.inputs) > 1
  )
  most = min(_BUDGET / (2 * max(nb_layers, 1) * (64 * values + kernels)), MAX_BYTES / (4 * values))
  return int(np.clip(most, _LEAST_IMAGES, _MOST_IMAGES))


def relative_error(original: Any, changed: Any) -> np.ndarray:
  """Squared error of each sample as a fraction of the outputs' variance, float64 [n]."""
  total = 0.0
  for one, other in zip(nested.parts(original), nested.parts(changed), strict=True):
    spread = np.var(one, dtype=np.float64) or 1.0
    apart = np.square(np.asarray(one, np.float64) - other).reshape(len(one), -1)
    total = total + apart.mean(axis=1) / spread
  return total


def snr_db(original: np.ndarray | None, changed: np.ndarray | None) -> float | None:
  """10 log10 of the signal's power over the error's, in dB; at most 120, at least -120.

  Args:
    original: values of any shape.
    changed: values of the same shape; their differences are the error.

  Returns:
    The ratio; None where one of them is not known.
  """
  if original is None or changed is None:
    return None
  signal = np.mean(np.square(original, dtype=np.float64))
  noise = np.mean(np.square(np.asarray(original, np.float64) - changed))
  if not noise:
    return _MOST_DB
  return float(np.clip(10 * np.log10(np.fmax(signal / noise, 1e-12)), -_MOST_DB, _MOST_DB))


def mean(divergences: Any) -> float:
  """Mean over samples, no less than zero."""
  return max(float(np.mean(np.asarray(divergences, np.float64))), 0.0)
