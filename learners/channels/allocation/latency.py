"""What fraction of a network may stay for it to be as fast as asked for: measured, not modelled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.even_splits import even_masks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.console import say
from secateurs.utils.deploy import measure_latency, tflite_bytes
from secateurs.utils.deploy.runtime.sound_files import require_sound
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan
from secateurs.utils.training import distributed

TOLERANCE = 0.02
_MAX_TRIES = 9
_FRAMES = 100
LITTLE = 1e-6  # The least fraction of a network that ratios may leave.


def latency_ratio(original: Path, model: keras.Model, nb_threads: int) -> float:
  """Median latency of a model's .tflite file by that of another file, timed interleaved."""

  def timed() -> float:
    require_sound([original])
    with tempfile.TemporaryDirectory(prefix='secateurs-') as folder:
      path = Path(folder) / 'model.tflite'
      path.write_bytes(tflite_bytes(model))
      found = measure_latency(
        {'original': original, 'model': path}, nb_frames=_FRAMES, threads=(nb_threads,)
      )
    return found['model'][0]['p50_ms'] / found['original'][0]['p50_ms']

  return distributed.from_chief(timed)


def share_for(
  target: float,
  build: Callable[[float], keras.Model],
  original: Path,
  *,
  least: float,
  nb_threads: int,
  prefix: str,
) -> tuple[float, float]:
  """The fraction of a network that may stay, by bisection on measured latencies.

  Args:
    target: latency as a fraction of the original's, in (0, 1].
    build: makes a network of which a fraction stays; what its weights are does not matter.
    original: the original's .tflite file.
    least: the lowest fraction that can be built.
    nb_threads: threads of the timing.
    prefix: of the flags that messages name.

  Returns:
    (share, latency ratio measured at it): the nearest to the target of all that were tried.

  Raises:
    UserError: even the least fraction is slower.
  """
  low, high = least, 1.0
  tried: dict[float, float] = {}

  def measure(share: float) -> float:
    tried[share] = latency_ratio(original, build(share), nb_threads)
    say(f'latency  fraction {share:.3f}: {tried[share]:.3f} of the original')
    return tried[share]

  if measure(low) > target * (1 + TOLERANCE):
    raise UserError(
      f"--{prefix}target_latency asks for {target:g} of the original's latency, but {tried[low]:.3f} "
      f'stay whatever is pruned: raise it, or prune more with --{prefix}trunk.'
    )
  while len(tried) < _MAX_TRIES:
    middle = (low + high) / 2
    found = measure(middle)
    if abs(found / target - 1) <= TOLERANCE:
      break
    if found > target:
      high = middle
    else:
      low = middle
  share = min(tried, key=lambda one: abs(tried[one] - target))
  return share, tried[share]


def fraction_of_time(
  config: Any,
  graph: ChannelGraph,
  units: Sequence[Unit],
  masks: Callable[[float], Sequence[np.ndarray]],
  original: Path,
  *,
  least: float,
  nb_threads: int,
) -> dict[str, float]:
  """The fraction at which networks have the latency that flags ask for; see `share_for`.

  Args:
    config: has `target_latency`, `prefix` and `even_splits`.
    graph: the channel graph.
    units: what may be cut.
    masks: gives the masks of all units, bool [unit.size], of a network of which a fraction stays.
    original: the original's .tflite file.
    least: the lowest fraction that can be built.
    nb_threads: of the timing.

  Returns:
    `fraction`, and the latency ratio `measured` at it.
  """

  def build(fraction: float) -> keras.Model:
    found = even_masks(graph, units, masks(fraction), even=config.even_splits)
    return apply_plan(plan_of(graph, units, found))

  fraction, measured = share_for(
    config.target_latency,
    build,
    original,
    least=least,
    nb_threads=nb_threads,
    prefix=config.prefix,
  )
  return {'fraction': fraction, 'measured': measured}
