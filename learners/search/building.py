"""Networks with something taken from them: roughly, for what they cost, or repaired."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts import slimming
from secateurs.learners.channels.cuts.cutting import keep_of, mask_attentions, plan_of
from secateurs.learners.channels.cuts.even_splits import even_masks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.even import prune_evenly
from secateurs.learners.channels.repair.method import Method, nb_points
from secateurs.learners.channels.repair.reconstruct import prune
from secateurs.learners.run.results.plan_cuts import channel_cuts, keep_of_plan
from secateurs.learners.run.results.plans import ChannelCut, CutStep
from secateurs.learners.run.settings import Settings
from secateurs.learners.search.reach import Reach
from secateurs.learners.search.state import Taken
from secateurs.utils import nested
from secateurs.utils.errors import UserError
from secateurs.utils.graph import apply_plan, drop_block
from secateurs.utils.graph.counts.copying import copy_flat
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.models.weights import kernels_by_name

ZEROS, BITS = 'zeros of ', 'bits of '  # Before a kernel's name.


@dataclasses.dataclass(frozen=True)
class Repair:
  """What layers are refit with after a cut: samples, and how."""

  batches: Sequence[np.ndarray]
  method: Method

  def on_few(self, nb_batches: int) -> Repair:
    """The same on the first batches."""
    batches = self.batches[:nb_batches]
    method = dataclasses.replace(self.method, nb_points=nb_points(len(batches)))
    return Repair(batches, method)


def without_blocks(model: keras.Model, taken: Sequence[Taken]) -> keras.Model:
  """The network without the residual branches that go, else an independent copy."""
  blocks = [one.part for one in taken if one.kind == 'block']
  for block in blocks:
    model = drop_block(model, block)
  return model if blocks else copy_flat(flatten_model(model))


def refit_without_blocks(
  model: keras.Model, taken: Sequence[Taken], reach: Reach, repair: Repair
) -> keras.Model:
  """The network without the residual branches that go, later layers refit to the outputs they had.

  The branches' weights are set to zero for the refit. Where that does not make a branch zero (an
  activation of 0 is not 0 everywhere), and where no layer after it can be refit, nothing is.
  """
  less = without_blocks(model, taken)
  blocks = [one.part for one in taken if one.kind == 'block']
  gone = set(flatten_model(model).layers()) - set(flatten_model(less).layers())
  found = dataclasses.replace(reach, skip=()).units(reach.graph(model))
  units = [unit for unit in found if gone.issuperset(unit.readers)]
  if not units or not blocks:
    return less
  emptied = copy_flat(flatten_model(model))
  for name, layer in flatten_model(emptied).layers().items():
    for weight in layer.weights if name in gone else ():
      if 'variance' not in weight.name:
        weight.assign(np.zeros(weight.shape))
  first = repair.batches[0]
  pairs = [nested.parts(nested.as_numpy(net(first, training=False))) for net in (emptied, less)]
  if not all(np.allclose(a, b, atol=1e-4) for a, b in zip(*pairs, strict=True)):
    return less
  given = {unit.name: np.ones(unit.size, bool) for unit in units}
  prune(model, emptied, units, {}, repair.batches, repair.method, given=given, leave=gone)
  return without_blocks(emptied, taken)


def rough(model: keras.Model, taken: Sequence[Taken], reach: Reach) -> keras.Model:
  """A network of the structure that a choice leads to; what its weights are does not matter."""
  net = without_blocks(model, taken)
  counts = {one.part: one.after for one in taken if one.kind == 'channels'}
  if counts:
    graph = reach.graph(net)
    units = reach.units(graph)
    masks = [np.arange(unit.size) < counts.get(unit.name, unit.size) for unit in units]
    masks = even_masks(graph, units, masks, even=reach.even)
    net = apply_plan(plan_of(graph, units, masks))
  sparsify(net, taken)
  return net


def repaired(
  model: keras.Model,
  taken: Sequence[Taken],
  reach: Reach,
  repair: Repair,
  settings: Settings,
) -> tuple[keras.Model, list[ChannelCut]]:
  """The network that a choice leads to: cut, and what reads cut channels refit by least squares.

  Args:
    model: float32, which stays as it is.
    taken: what goes.
    reach: which channels may go.
    repair: samples and method of the refit.
    settings: give images on which slicing is proved.

  Returns:
    The network, and the channels that stayed of what was cut.
  """
  net = refit_without_blocks(model, taken, reach, repair)
  counts = {one.part: one.after for one in taken if one.kind == 'channels'}
  cuts: list[ChannelCut] = []
  if counts:
    units = reach.units(reach.graph(net))
    counts = {unit.name: counts.get(unit.name, unit.size) for unit in units}
    net, cuts = _pruned(net, units, counts, None, reach, repair, settings)
  sparsify(net, taken)
  return net, cuts


def as_planned(
  model: keras.Model,
  step: CutStep,
  reach: Reach,
  repair: Repair,
  settings: Settings,
) -> keras.Model:
  """The network that a step of a plan leads to, refit as `repaired` does.

  Raises:
    UserError: the step cuts channels that the flags leave whole.
  """
  blocks = [Taken(name, 'block', 1, 0, 0.0) for name in step.blocks]
  net = refit_without_blocks(model, blocks, reach, repair)
  if not step.channels:
    return net
  graph = reach.graph(net)
  units, keep = reach.units(graph), keep_of_plan(step, graph)
  unknown = set(keep) - {unit.key for unit in units}
  if unknown:
    names = [cut.layer for cut, key in zip(step.channels, keep) if key in unknown]
    raise UserError(
      f'--plan {settings.run.plan} cuts channels of {", ".join(names)}, which joint-search with '
      f'--js_trunk {reach.trunk} does not: give the trunk and skip flags of the run that wrote it.'
    )
  masks = {
    unit.name: np.isin(np.arange(unit.size), keep.get(unit.key, np.arange(unit.size)))
    for unit in units
  }
  return _pruned(net, units, {}, masks, reach, repair, settings)[0]


def _pruned(
  net: keras.Model,
  units: Sequence[Unit],
  counts: Mapping[str, int],
  given: Mapping[str, np.ndarray] | None,
  reach: Reach,
  repair: Repair,
  settings: Settings,
) -> tuple[keras.Model, list[ChannelCut]]:
  """A network with channels chosen or given, its layers refit, sliced."""
  masked = copy_flat(flatten_model(net))
  graph = reach.graph(masked)
  mask = functools.partial(mask_attentions, masked, graph, units)
  kept, _ = prune_evenly(
    net,
    masked,
    units,
    counts,
    repair.batches,
    repair.method,
    even=reach.even,
    graph=reach.graph(net),
    units=units,
    kept={},
    given=given,
    mask=mask,
  )
  keep = keep_of(units, {name: np.flatnonzero(mask) for name, mask in kept.items()})
  slim = slimming.sliced(graph, keep, settings).model
  cuts = [cut for cut in channel_cuts(graph, keep) if len(cut.kept) < cut.size]
  return slim, cuts


def sparsify(model: keras.Model, taken: Sequence[Taken]) -> None:
  """Sets the smallest weights of kernels to zero; channels that went may have taken some along."""
  kernels = kernels_by_name(model)
  for one in taken:
    if one.kind != 'zeros' or one.part.removeprefix(ZEROS) not in kernels:
      continue
    kernel = kernels[one.part.removeprefix(ZEROS)]
    before = kernel.numpy()
    share = one.after / max(one.before, 1)
    kernel.assign(smallest_zero(before, round(share * np.count_nonzero(before))))


def smallest_zero(weights: np.ndarray, nb_kept: int) -> np.ndarray:
  """A kernel of which only the largest weights stay."""
  return weights * best(np.abs(weights).reshape(-1), nb_kept).reshape(weights.shape)


def even_bits(model: keras.Model, bits: int) -> dict[str, int]:
  """The same bits for all kernels of a network, by name."""
  return dict.fromkeys(kernels_by_name(model), bits)


def bits_after(before: Mapping[str, int], taken: Sequence[Taken]) -> dict[str, int]:
  """Bits by kernel name after a choice."""
  changed = {one.part.removeprefix(BITS): one.after for one in taken if one.kind == 'bits'}
  return {name: changed.get(name, bits) for name, bits in before.items()}
