"""How much each layer can lose: the divergence of the outputs while one layer is pruned alone.

One unit at a time loses channels, and the layers that read it are refit by themselves; all others stay
whole. What is measured is how far the class probabilities then are from the original network's,

  KL(p || q) = sum over classes of p log(p / q), mean over images,

which needs no labels. Layers before the unit do not change, so that their maps are computed once. Added
up over the layers, these curves tell what a network with all of them pruned loses well enough to share
out a budget by (`allocation`); docs/chn_pruned.md has what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channel_units import Unit
from secateurs.learners.frontier import Frontier, bytes_per_image
from secateurs.learners.layer_refits import LayerRefits
from secateurs.utils.graph.cuts import first_calls
from secateurs.utils.graph.walk import flatten_model
from secateurs.utils.training import distributed

NB_IMAGES = 500
_MAX_BYTES = 1 << 30
_SHARES = (7 / 8, 3 / 4, 0.6, 0.45, 0.3, 0.15)

Curve = list[tuple[float, float]]
"""(share of channels that are gone, divergence), with rising shares; the first is (0, 0)."""


def numbers_kept(size: int) -> list[int]:
  """The numbers of channels, falling from `size` - 1 at most to one, at which a unit is measured."""
  found = {1, *(round(share * size) for share in _SHARES)}
  return sorted((number for number in found if 0 < number < size), reverse=True)


def scan_units(
  working: keras.Model,
  units: Sequence[Unit],
  refits: LayerRefits,
  images: np.ndarray,
  progress: Callable[[int, int, Unit, Curve], None] | None = None,
) -> dict[str, Curve]:
  """Curves by unit name.

  Args:
    working: a network that gives logits, with the original's weights, which it has again at the end.
    units: what is measured.
    refits: of the same units.
    images: [n, h, w, c]; each process passes all of them and runs its share. Fewer are used where
      their maps would take more than 1 GiB.
    progress: called behind each unit with its number, how many there are, the unit and its curve.
  """
  flat = flatten_model(working)
  layers, first = flat.layers(), first_calls(flat)
  starts = {unit.name: min(first[name] for name in unit.readers) for unit in units}
  rank, nb_ranks = distributed.shard()
  need = max((bytes_per_image(flat, position) for position in starts.values()), default=1)
  mine = images[: max(_MAX_BYTES // need, 1) * nb_ranks][rank::nb_ranks]
  frontier = Frontier(flat, mine)
  (output,) = flat.outputs

  def log_probabilities() -> np.ndarray:
    return tf.nn.log_softmax(frontier.peek([output])[output].astype(np.float32)).numpy()

  whole = log_probabilities()
  curves: dict[str, Curve] = {}
  for number, unit in enumerate(sorted(units, key=lambda u: starts[u.name]), 1):
    frontier.advance(starts[unit.name])
    curve = [(0.0, 0.0)]
    for kept in numbers_kept(unit.size):
      refits.apply(layers, {unit.name: kept})
      divergences = (np.exp(whole) * (whole - log_probabilities())).sum(axis=-1)
      total, count = distributed.sum(divergences.sum(dtype=np.float64), float(len(mine)))
      curve.append((1 - kept / unit.size, max(float(total / count), 0.0)))
    refits.apply(layers, {})
    curves[unit.name] = curve
    if progress is not None:
      progress(number, len(units), unit, curve)
  return curves


def losses_of(curves: Mapping[str, Curve], units: Sequence[Unit]) -> dict[str, np.ndarray]:
  """Each unit's loss after so many channels have gone, [size + 1]: its curve, which never falls."""
  losses = {}
  for unit in units:
    shares, values = np.array(curves[unit.name]).T
    losses[unit.name] = np.interp(
      np.arange(unit.size + 1) / unit.size, shares, np.maximum.accumulate(values)
    )
  return losses
