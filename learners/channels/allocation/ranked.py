"""A network whose channels are ranked, and what measuring how many stay of them takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation.choices import CostForm
from secateurs.learners.channels.allocation.site import Site
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import statistics
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.run.training.trials import Candidate
from secateurs.learners.run.training.workers import Workers
from secateurs.utils.graph import ChannelGraph, plan_cost


@dataclasses.dataclass(frozen=True)
class Ranked:
  """A network whose channels are ranked.

  Attributes:
    graph: its channel graph.
    units: what may be pruned.
    keys: [unit.size] by unit name: the highest stay.
    stays: bool array [unit.size] by unit name, True for channels that must stay.
  """

  graph: ChannelGraph
  units: Sequence[Unit]
  keys: Mapping[str, np.ndarray]
  stays: Mapping[str, np.ndarray]

  def masks(self, counts: Mapping[str, int]) -> list[np.ndarray]:
    """The channels that stay when units keep so many, bool [unit.size], in the order of the units."""
    return [best(self.keys[unit.name], counts[unit.name]) for unit in self.units]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterSite(Site):
  """What measuring a ranking takes; see `Site`.

  Attributes:
    images: gives batches that layers are refit over; None where cuts are not refit.
    method: how layers are refit.
    fitness: makes what judges candidates of a search: as many as are judged at the same time.
  """

  images: Callable[[], list[np.ndarray]] | None
  method: Method
  fitness: Callable[[Ranked], Workers[Candidate, float]]


def refits_of(
  ranked: Ranked, site: FilterSite, working: keras.Model
) -> tuple[LayerRefits | None, list[Unit], list[Unit]]:
  """Refits of layers at any widths, where cuts are refit, whose choices are those of the ranking.

  Args:
    ranked: the network.
    site: says whether cuts are refit, how, and over what.
    working: with the weights of the original; it stays as it is.

  Returns:
    The refits, or None if there are none; the units that they are of; and the other units.
  """
  images = None if site.images is None else site.images()
  refit = [] if images is None else [unit for unit in ranked.units if unit.readers]
  rest = [unit for unit in ranked.units if unit not in refit]
  if not refit:
    return None, refit, rest
  original, method = site.original(), dataclasses.replace(site.method, scores=ranked.keys)
  readers = statistics(original, working, refit, images, method)
  return LayerRefits(original, refit, readers, method), refit, rest


def exact_cost(ranked: Ranked) -> CostForm:
  """MACs by planning the cut of the ranked channels, for units whose channels are not alike."""

  def cost(gone: np.ndarray) -> int:
    counts = {
      unit.name: unit.size - int(less) for unit, less in zip(ranked.units, gone, strict=True)
    }
    return plan_cost(plan_of(ranked.graph, ranked.units, ranked.masks(counts)))[0]

  return cost
