"""Choices that a pass of refits makes, with parts of splits equally wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.criteria.judged import with_fates
from secateurs.learners.channels.criteria.registry import unit_scores
from secateurs.learners.channels.cuts.even_splits import evened_choice, joined, uneven
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import prune
from secateurs.learners.run.console import say
from secateurs.utils.graph import ChannelGraph


def evened_by_norms(
  graph: ChannelGraph,
  units: Sequence[Unit],
  kept: Mapping[str, Sequence[int]],
  chosen: Mapping[str, np.ndarray],
  *,
  drop_only: bool = False,
) -> dict[str, np.ndarray]:
  """As `evened_choice`, for choices without ranks: the L2 norms of filters stand in for them.

  Args:
    graph: of the network before the choice.
    units: all of it.
    kept: channels that stay of units that were chosen before, by name.
    chosen: bool array [unit.size] by the name of each unit that is chosen now.
    drop_only: whether channels that were not chosen stay away.
  """
  if not uneven(graph, units, joined(units, kept, chosen)):
    return dict(chosen)
  scores = unit_scores('l2', graph, units, None)
  there = {name: np.flatnonzero(mask).tolist() for name, mask in chosen.items()}
  keys, _ = with_fates(graph, units, scores, there if drop_only else None)
  return evened_choice(graph, units, kept, chosen, keys)


def prune_evenly(
  original: keras.Model,
  pruned: keras.Model,
  group: Sequence[Unit],
  counts: Mapping[str, int],
  batches: Sequence[np.ndarray],
  method: Method,
  *,
  even: bool,
  graph: ChannelGraph,
  units: Sequence[Unit],
  kept: Mapping[str, Sequence[int]],
  given: Mapping[str, np.ndarray] | None = None,
  progress: Callable[[int, int, dict[str, Any]], None] | None = None,
  **options: Any,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
  """As `prune`, and once more with equal parts where the choice makes parts of a split unequal.

  The second pass begins with the weights before the first one. Where these were scaled with the
  choice (LASSO without a refit), it continues from the first, and channels can only go.

  Args:
    original: see `prune`.
    pruned: see `prune`.
    group: units that are chosen now.
    counts: see `prune`.
    batches: see `prune`.
    method: see `prune`.
    even: whether parts are to be equal at all.
    graph: of the network before the choice.
    units: all of it.
    kept: channels that stay of units that were chosen before, by name.
    given: a choice that was made elsewhere and stays as it is.
    progress: see `prune`.
    options: further ones of `prune`.
  """
  before = pruned.get_weights()
  options |= {'progress': progress}
  chosen, records = prune(original, pruned, group, counts, batches, method, given=given, **options)
  if given is not None or not even:
    return chosen, records
  found = evened_by_norms(graph, units, kept, chosen, drop_only=method.scales)
  if all(np.array_equal(found[name], mask) for name, mask in chosen.items()):
    return chosen, records
  if not method.scales:
    pruned.set_weights(before)
  say('prune  once more, with parts of splits equally wide')
  return prune(original, pruned, group, counts, batches, method, given=found, **options)
