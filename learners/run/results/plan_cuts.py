"""What a plan means for a network: its channels in a channel graph, and its cut made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.run.results.plans import (
  INPUT,
  OUTPUT,
  ChannelCut,
  CutPlan,
  CutStep,
  read_plan,
  require_same_network,
)
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, correct_norms, drop_block, plan_slice
from secateurs.utils.graph import apply_plan as slice_by_plan
from secateurs.utils.graph.slicing.planning import Keep
from secateurs.utils.training.models.weights import kernels_by_name


def channel_cuts(graph: ChannelGraph, keep: Keep) -> list[ChannelCut]:
  """What slicing keeps, with layers' names in place of the graph's numbers.

  A layer makes channels of one group only, so that the first layer of a group names it.
  """
  cuts = []
  for key, kept in keep.items():
    if isinstance(key, int):
      layer, side, size = graph.groups[key].name, OUTPUT, graph.groups[key].size
    else:
      (layer, side), size = key, len(_channels(graph, *key))
    cuts.append(ChannelCut(layer, side, size, sorted(map(int, kept))))
  return cuts


def keep_of_plan(plan: CutPlan | CutStep, graph: ChannelGraph) -> Keep:
  """What `slice_model` keeps by a plan's channels; the inverse of `channel_cuts`.

  Raises:
    UserError: the network has no such channels, or another number of them.
  """
  groups, keep = {group.name: group.index for group in graph.groups}, {}
  for cut in plan.channels:
    if cut.side == OUTPUT and cut.layer not in groups:
      raise UserError(
        f'The plan cuts the channels of layer {cut.layer}, but no channel group of this network has '
        'that name: give the plan.json that a run of this program wrote beside its report.'
      )
    key = groups[cut.layer] if cut.side == OUTPUT else (cut.layer, cut.side)
    size = graph.groups[key].size if cut.side == OUTPUT else len(_channels(graph, *key))
    if size != cut.size:
      raise UserError(
        f'The plan is of another network: it has {cut.size} channels of layer {cut.layer} '
        f'({cut.side}) where this network has {size}; give the plan of the same architecture.'
      )
    keep[key] = np.array(cut.kept, int)
  return keep


def _channels(graph: ChannelGraph, layer: str, side: str) -> np.ndarray:
  """The elements of the channels that a layer reads, or keeps inside."""
  return (graph.inputs(layer) if side == INPUT else graph.inside(layer, side)).roots


def apply_plan(
  model: keras.Model, plan: CutPlan | str | os.PathLike, batches: Sequence[Any] = ()
) -> keras.Model:
  """Makes the cut of a plan on a network of the same architecture, without choosing again.

  Weights that the plan prunes are those of least magnitude in this network; channels and residual
  blocks are the plan's. `bits` are not looked at: weights share values while a learner trains them.

  Args:
    model: a functional tf_keras model; it stays as it is.
    plan: a plan, or the path of plan.json.
    batches: inputs for `correct_norms`, where the plan cuts normalisations; none: they are not fitted.

  Returns:
    A smaller model, which is not trained.

  Raises:
    UserError: the plan cannot be read, or belongs to another network.
  """
  source = 'The plan' if isinstance(plan, CutPlan) else str(plan)
  plan = plan if isinstance(plan, CutPlan) else read_plan(plan)
  require_same_network(plan, model, source)
  for step in plan.all_steps():
    for block in step.blocks:
      model = drop_block(model, block)
    graph = ChannelGraph(model, plan.norms, plan.heads)
    least = min((len(cut.kept) for cut in step.channels), default=1)
    cuts = plan_slice(graph, keep_of_plan(step, graph), min_channels=min(least, 1))
    model = slice_by_plan(cuts)
    if len(batches):
      correct_norms(cuts, model, batches)
  set_zeros(model, plan)
  return model


def set_zeros(model: keras.Model, plan: CutPlan) -> None:
  """Sets the smallest weights of kernels to zero, as many as a plan prunes."""
  pattern = plan.where_zeros_lie()
  for name, kernel in kernels_by_name(model).items():
    if name in plan.zeros:
      weights = kernel.numpy()
      kernel.assign(weights * pattern.mask(weights, plan.zeros[name].kept))
