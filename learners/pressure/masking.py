"""What has gone from a network that is not sliced yet: masks over channels and residual branches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.cutting import RowMasks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.filter_repair import repair
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.pressure.blocks import BlockMasks, Branch
from secateurs.learners.pressure.pressed import Pressed
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.models.weights import copy_weights


class PassMasks(Masks):
  """Masks of all channels and residual branches that have gone."""

  def __init__(
    self,
    model: keras.Model,
    graph: ChannelGraph,
    units: Sequence[Unit],
    kept: Mapping[str, np.ndarray],
    branches: Sequence[Branch],
    blocks: Sequence[str],
  ) -> None:
    """Masks a network and applies the masks; `kept` may leave units out that are whole."""
    rows = RowMasks(model, graph, units)
    rows.keep(kept)
    ends = BlockMasks(model, branches, blocks)
    super().__init__([*rows.variables, *ends.variables], [*rows.masks, *ends.masks])


def cut_masks(
  model: keras.Model,
  working_model: Callable[[], keras.Model],
  pressed: Pressed,
  kept: Mapping[str, np.ndarray],
  blocks: Sequence[str],
  how: str,
  method: Method,
  *,
  images: Callable[[], list[np.ndarray]],
  bn_images: Callable[[], list[np.ndarray]],
) -> list[dict[str, Any]]:
  """Masks a network in place and repairs it, to the outputs that it had before.

  Args:
    model: the network that trains.
    working_model: makes a float32 copy of it.
    pressed: its units and branches.
    kept: bool array [unit.size] by unit name.
    blocks: names of the blocks whose branches go.
    how: see `filter_repair.repair`.
    method: how layers are refit.
    images: gives batches that layers are refit over.
    bn_images: gives batches that batch normalisation is re-estimated over.

  Returns:
    A record of each layer that was refit.
  """
  if all(mask.all() for mask in kept.values()):
    return []
  target, copy = working_model(), working_model()
  # Nothing reads a channel of a branch that goes as a whole.
  inner = {n for branch in pressed.branches if branch.block in blocks for n in branch.units}
  units = [
    dataclasses.replace(unit, readers=(), elements={}) if unit.name in inner else unit
    for unit in pressed.units
  ]
  BlockMasks(copy, pressed.branches, blocks)
  records = repair(
    how,
    lambda: target,
    copy,
    pressed.graph.again(copy),
    units,
    kept,
    method,
    images=images,
    bn_images=bn_images,
  )
  BlockMasks(copy, pressed.branches, blocks)
  copy_weights(copy, model)
  return records
