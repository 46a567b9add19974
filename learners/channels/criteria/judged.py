"""Keys of a network's channels by a criterion, with what must stay and what has gone."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from secateurs.learners.channels.criteria import ranking
from secateurs.learners.channels.criteria.data_criteria import Samples
from secateurs.learners.channels.criteria.registry import CRITERIA, groups_of, unit_scores
from secateurs.learners.channels.cuts.shortcuts import made_in
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.choice.floors import floors
from secateurs.utils.graph.choice.taps import made_by
from secateurs.utils.training import distributed

_ALTERNATIVE = 'l1'


def makers(graph: ChannelGraph, units: Sequence[Unit]) -> set[str]:
  """Names of the layers that make the units' channels."""
  groups = {group for unit in units for group in groups_of(graph, unit)}
  return {name for group in groups for name in made_in(graph.groups[group])}


def require_answer(
  criterion: str,
  graph: ChannelGraph,
  units: Sequence[Unit],
  flag: str,
  *,
  follow: Collection[str] = (),
  additions: bool = True,
) -> None:
  """Checks that a criterion can judge all units, from the network's structure alone.

  Args:
    criterion: its name.
    graph: of the network, whatever its weights.
    units: what it is to judge.
    flag: that named it, for the message.
    follow: layers that alone decide in the units to which they belong.
    additions: whether maps are looked at after additions.

  Raises:
    UserError: it cannot; another criterion is named.
  """
  entry, known = CRITERIA.find(criterion), makers(graph, units)
  prefix = flag[: flag.index('_') + 1]
  for unit in units:
    for group in groups_of(graph, unit):
      members = [m.layer for m in graph.groups[group].members if m.role != 'consumes']
      deciding = [name for name in members if name in follow] or members
      if entry.on_data:
        answers = criterion != 'rank' or any(
          _has_map(graph, name, additions) for name in deciding if name in known
        )
      else:
        judge, layers = entry.score(graph, None), graph.traced.flat.layers()
        answers = any(judge(layers[name]) is not None for name in deciding)
      if not answers:
        needs = entry.needs or 'layers with filters'
        raise UserError(
          f'--{flag} {criterion} needs {needs}, which the channels of {unit.name} do not have: take '
          f'another criterion, such as {_ALTERNATIVE}, or leave them out with --{prefix}skip '
          f'{unit.name}.'
        )


def _has_map(graph: ChannelGraph, name: str, additions: bool) -> bool:
  flat = graph.traced.flat
  end = made_by(flat, name, additions=additions)
  shape = flat.shapes[flat.calls_by_layer()[end][0].outputs[0]]
  return len(shape) == 4 and all(side is None or side > 1 for side in shape[1:3])


def unit_keys(
  criterion: str,
  graph: ChannelGraph,
  units: Sequence[Unit],
  samples: Samples,
  *,
  order: str,
  normalization: str,
  follow: Collection[str] = (),
  kept: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Keys by which channels are ranked, and which must stay; the same on all processes.

  Protected channels must stay, and of each layer and tensor the best channel.

  Args:
    criterion: its name.
    graph: of the network.
    units: what is ranked.
    samples: for criteria on data, and the seed of random scores.
    order: see `ranking.keys`.
    normalization: a name in `ranking.NORMALIZATIONS`, or `source` for the criterion's.
    follow: layers that alone decide in the units to which they belong.
    kept: the channels that have not gone yet, by unit name; default: all.

  Returns:
    (keys, stays): float [unit.size] and bool [unit.size] by unit name.
  """
  how = CRITERIA.find(criterion).normalization if normalization == 'source' else normalization
  found = unit_scores(criterion, graph, units, samples, follow)
  found = {
    name: ranking.keys(ranking.normalized(scores, how), order) for name, scores in found.items()
  }
  return with_fates(graph, units, found, kept)


def with_fates(
  graph: ChannelGraph,
  units: Sequence[Unit],
  found: Mapping[str, np.ndarray],
  kept: Mapping[str, Sequence[int]] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Keys with +inf for channels that must stay and -inf for those that have gone; see `unit_keys`.

  Args:
    graph: of the network.
    units: what is ranked.
    found: keys by unit name.
    kept: the channels that have not gone yet, by unit name; default: all.
  """
  gone = {
    unit.name: ~np.isin(np.arange(unit.size), (kept or {}).get(unit.name, np.arange(unit.size)))
    for unit in units
  }
  grouped = [unit for unit in units if isinstance(unit.key, int)]
  by_group = [np.zeros(group.size) for group in graph.groups]
  for unit in grouped:
    by_group[unit.key] = np.where(gone[unit.name], found[unit.name].min() - 1, found[unit.name])
  groups = [graph.groups[unit.key] for unit in grouped]
  fixed = floors(graph, groups, by_group, 1) if groups else None
  stays = {
    unit.name: fixed[graph.groups[unit.key].roots] & ~gone[unit.name]
    if isinstance(unit.key, int)
    else np.zeros(unit.size, bool)
    for unit in units
  }
  keys = {
    unit.name: ranking.with_fate(found[unit.name], stays[unit.name], gone[unit.name])
    for unit in units
  }
  return distributed.broadcast_object((keys, stays))


def batches_of_all(by_batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The rows of all processes' batches, in the order of the stream that they were dealt out from.

  Args:
    by_batch: of this process's batches, [batches, channels] by layer name: of n processes the first has
      batches 0, n, 2n, ...
  """
  parts = distributed.gather_objects(dict(by_batch))
  names = dict.fromkeys(name for part in parts for name in part)
  return {
    name: np.array(
      [
        row
        for rows in itertools.zip_longest(*(part.get(name, ()) for part in parts))
        for row in rows
        if row is not None
      ]
    )
    for name in names
  }


def rank_correlation(by_batch: np.ndarray, nb_first: int) -> float | None:
  """Spearman's correlation between the channels' ranks over the first batches and over the others.

  Args:
    by_batch: mean rank over each batch, [batches, channels].
    nb_first: how many batches are the first.

  Returns:
    None where all ranks of a part are equal.
  """
  parts = by_batch[:nb_first].mean(axis=0), by_batch[nb_first:].mean(axis=0)
  if not all(np.ptp(one) > 0 for one in parts):
    return None
  return float(stats.spearmanr(*parts).statistic)


def rank_stability(by_batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """How far the ranks of maps depend on the images (Lin et al. 2020, figure 2).

  Args:
    by_batch: mean rank over each batch of all processes, [batches, channels] by layer name.

  Returns:
    `rank_stability`: for each layer the mean rank over channels; the mean over channels of the standard
    deviation over batches; Spearman's correlation between the channels' ranks over the two halves of
    the batches (None where all ranks are equal, or for a single batch);
    `rank_by_channel`: for each layer (place among the channels, mean rank), sorted by rank;
    `rank_spread`: the standard deviations in the same order.
  """
  rows, curves, spreads = {}, {}, {}
  for name, ranks in by_batch.items():
    mean, spread, half = ranks.mean(axis=0), ranks.std(axis=0), len(ranks) // 2
    correlation = rank_correlation(ranks, half) if half else None
    rows[name] = {
      'mean_rank': float(mean.mean()),
      'spread_over_batches': float(spread.mean()),
      'correlation_of_halves': correlation,
    }
    order = np.argsort(mean, kind='stable')
    places = np.arange(len(mean)) / max(len(mean) - 1, 1)
    curves[name] = [(float(x), float(y)) for x, y in zip(places, mean[order], strict=True)]
    spreads[name] = [(float(x), float(y)) for x, y in zip(places, spread[order], strict=True)]
  return {'rank_stability': rows, 'rank_by_channel': curves, 'rank_spread': spreads}
