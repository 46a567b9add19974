"""How the channels that layers make are ranked: what a run and --exec_mode sensitivity share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from secateurs.learners.channels.criteria.data_criteria import Samples
from secateurs.learners.channels.criteria.judged import makers, require_answer, unit_keys
from secateurs.learners.channels.criteria.registry import CRITERIA
from secateurs.learners.channels.cuts.filter_units import FOLLOW
from secateurs.learners.channels.cuts.shortcuts import deciders
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.choice.taps import OUTPUT, Loss


@dataclasses.dataclass(frozen=True)
class Keys:
  """Ranked channels.

  Attributes:
    keys: float [unit.size] by unit name: the highest stay.
    stays: bool [unit.size] by unit name, True for channels that must stay.
    found: what the criterion leaves for the report, see `Samples`.
  """

  keys: dict[str, np.ndarray]
  stays: dict[str, np.ndarray]
  found: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Ranking:
  """A criterion, and how it is asked.

  Attributes:
    criterion: its name.
    trunk: a name in FILTER_TRUNKS: with `follow` the shortcut's projection alone ranks a trunk, by what
      it makes before the addition.
    prefix: of the flags that messages name.
    loss: of (targets, outputs), a mean over the batch.
    seed: of random scores.
    batches: gives this process's (inputs, targets), for criteria on data alone.
    order: see `ranking.keys`.
  """

  criterion: str
  trunk: str
  prefix: str
  loss: Loss
  seed: int
  batches: Callable[[], Sequence[tuple]]
  order: str = 'best'

  @property
  def additions(self) -> bool:
    """Whether what layers make is looked at after additions, too."""
    return self.trunk != FOLLOW

  def followed(self, graph: ChannelGraph) -> set[str]:
    """Layers that alone rank the channels of a trunk."""
    return deciders(graph) if self.trunk == FOLLOW else set()

  def require_answer(self, graph: ChannelGraph, units: Sequence[Unit]) -> None:
    """Checks that the criterion can judge all units, from the network's structure alone.

    Raises:
      UserError: it cannot; another criterion is named.
    """
    require_answer(
      self.criterion,
      graph,
      units,
      f'{self.prefix}criterion',
      follow=self.followed(graph),
      additions=self.additions,
    )

  def keys(
    self,
    graph: ChannelGraph,
    units: Sequence[Unit],
    normalization: str = 'none',
    kept: Mapping[str, Sequence[int]] | None = None,
  ) -> Keys:
    """Keys of the units' channels; see `judged.unit_keys` for the arguments."""
    samples = Samples(
      self.batches() if CRITERIA.find(self.criterion).on_data else [],
      self.loss,
      OUTPUT,
      makers(graph, units),
      self.additions,
      self.seed,
    )
    keys, stays = unit_keys(
      self.criterion,
      graph,
      units,
      samples,
      order=self.order,
      normalization=normalization,
      follow=self.followed(graph),
      kept=kept,
    )
    return Keys(keys, stays, samples.found)
