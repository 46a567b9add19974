"""What each level of each part of a network costs in divergence, measured without training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from secateurs.learners.channels.allocation.sensitivity import unit_parts
from secateurs.learners.channels.repair.reconstruct import statistics
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.quant.pruning import pruned_kernels
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.divergence import Part
from secateurs.learners.search.building import BITS, ZEROS, Repair, smallest_zero
from secateurs.learners.search.choosing import Choice
from secateurs.learners.search.files import shared
from secateurs.learners.search.savings import (
  SPARSER,
  block_choices,
  channel_choices,
  weight_choices,
)
from secateurs.learners.search.scene import Scene
from secateurs.utils.graph.counts.copying import copy_flat
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.models.weights import kernels_by_name, layer_kernels

_LEAST_BITS = 2


def survey(scene: Scene, repair: Repair, samples: Any, say: Callable[[str], None]) -> list[Choice]:
  """All parts of a network with their levels, losses and savings.

  Channels are measured with what reads them refit, blocks by the network without them and with later
  layers refit, zeros and bits as they are; all by the divergence from the network's own outputs.

  Args:
    scene: the network.
    repair: samples and method of the refits.
    samples: inputs [n, ...] on which divergences are measured.
    say: prints a line.
  """
  working = copy_flat(flatten_model(scene.model))
  graph = scene.graph()
  units = scene.units(graph) if 'channels' in scene.kinds else []
  scene = scene.with_memory(graph, units)
  parts: list[Part] = []
  if units:
    readers = statistics(scene.model, working, units, repair.batches, repair.method)
    refits = LayerRefits(scene.model, units, readers, repair.method)
    parts += unit_parts(working, units, refits)
  kernels = kernels_by_name(working) if scene.bits else {}
  sparse = pruned_kernels(kernels) if kernels else {}
  first = first_calls(flatten_model(working))
  owners = {kernel.ref(): layer.name for layer, kernel in layer_kernels(working)}
  for name, kernel in kernels.items():
    start = first[owners[kernel.ref()]]
    if name in sparse and 'zeros' in scene.kinds:
      parts.append(_zeros_part(name, kernel, start))
    if scene.bits[name] > _LEAST_BITS and 'bits' in scene.kinds:
      parts.append(_bits_part(name, kernel, start, scene.bits[name]))
  curves = divergence.scan(working, parts, samples, scene.settings.helper.task)
  found = channel_choices(scene, graph, units, curves)
  found += block_choices(scene, samples, repair) if 'blocks' in scene.kinds else []
  found += weight_choices(scene, kernels, curves)
  say(
    f'survey  {len(units)} units of channels, {sum(o.kind == "block" for o in found)} residual '
    f'blocks, {len(sparse)} kernels'
  )
  return found


def _zeros_part(name: str, kernel: Any, start: int) -> Part:
  weights = kernel.numpy()
  whole = np.count_nonzero(weights)

  def prune(share: float) -> None:
    kernel.assign(smallest_zero(weights, round(share * whole)))

  points = [(1 - share, functools.partial(prune, share)) for share in SPARSER]
  return Part(ZEROS + name, start, points, lambda: kernel.assign(weights))


def _bits_part(name: str, kernel: Any, start: int, bits: int) -> Part:
  weights = kernel.numpy()

  def prune() -> None:
    kernel.assign(shared(weights, bits - 1))

  return Part(BITS + name, start, [(1.0, prune)], lambda: kernel.assign(weights))
