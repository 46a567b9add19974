"""What follows a cut before any training: masks, and what makes up for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.cutting import RowMasks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import prune, say_layer
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training.models.batch_norm import reestimate


def repair(
  how: str,
  original: Callable[[], keras.Model],
  model: keras.Model,
  graph: ChannelGraph,
  units: Sequence[Unit],
  kept: Mapping[str, np.ndarray],
  method: Method,
  *,
  images: Callable[[], list[np.ndarray]],
  bn_images: Callable[[], Iterable[np.ndarray]],
) -> list[dict[str, Any]]:
  """Masks a network and repairs it in place.

  Units that a layer reads which cannot be refit are masked, and none of their readers is refit.

  Args:
    how: `none`, `batch-norm` (statistics are re-estimated), or `least-squares` (layers are refit to the
      outputs of the original network, one after the other).
    original: makes the network before compression, float32.
    model: the network, float32.
    graph: its channel graph.
    units: what may be pruned.
    kept: bool array [unit.size] by unit name, of those that have been cut.
    method: how layers are refit.
    images: gives batches that layers are refit over.
    bn_images: gives batches that batch normalisation is re-estimated over.

  Returns:
    A record of each layer that was refit.
  """
  masks = RowMasks(model, graph, units)
  if how != 'least-squares':
    masks.keep(kept)
    if how == 'batch-norm':
      reestimate(model, bn_images())
    return []
  plain = [unit for unit in units if unit.name in kept and not unit.readers]
  masks.keep({unit.name: kept[unit.name] for unit in plain})
  refit = [unit for unit in units if unit.name in kept and unit.readers]
  _, records = prune(
    original(),
    model,
    refit,
    {},
    images(),
    method,
    dropped=_gone(graph, plain, kept),
    given={unit.name: kept[unit.name] for unit in refit},
    leave=_readers(graph, plain),
    progress=say_layer,
  )
  masks.keep(kept)
  return records


def _readers(graph: ChannelGraph, units: Sequence[Unit]) -> set[str]:
  """Names of all layers that read channels of some units."""
  found = set()
  for unit in units:
    if isinstance(unit.key, int):
      found |= set(graph.groups[unit.key].layers('consumes'))
    else:
      found.add(unit.key[0])
  return found


def _gone(
  graph: ChannelGraph, units: Sequence[Unit], kept: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Bool arrays over the input channels that layers have lost, by layer name."""
  found: dict[str, np.ndarray] = {}
  for unit in units:
    for name in _readers(graph, [unit]):
      channels = graph.inputs(name)
      mine, element = channels.group == unit.key, channels.element
      if not isinstance(unit.key, int):
        mine, element = np.ones(unit.size, bool), np.arange(unit.size)
      gone = mine & ~kept[unit.name][np.where(mine, element, 0)]
      found[name] = found[name] | gone if name in found else gone
  return found
