"""Criteria: what a channel is worth. Higher means that it stays.

Four kinds, by what they are computed from:

- `score`: a number for each channel, from the weights of single layers or from what the network makes
  of images; the best of each unit stay.
- `moments`: a choice among the channels that a layer reads, from the moments of its inputs and
  outputs (`layerwise.channel_choice`), made while layers are pruned one after the other.
- `gradient`: a choice that is repeated while layers are trained (dis-chn-pruned).
- `pressure`: a number that training under pressure leaves (reg-pruned, gate-pruned, prune-regrow).

A criterion of one layer is a function with a decorator:

  @layer_criterion('l0', summary='number of weights that are not zero', source='...')
  def l0(layer): ...  # One number for each output channel, or None for layers that it does not judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from secateurs.learners.channels.criteria import filters
from secateurs.learners.channels.criteria.data_criteria import (
  Samples,
  on_data,
  random_scores,
  rank_scores,
  taylor_scores,
)
from secateurs.learners.channels.criteria.filters import of_each_filter
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils import nested
from secateurs.utils.graph import ChannelGraph, channel_scores
from secateurs.utils.graph.choice.scores import LayerCriterion, bn_gamma, l1, l2
from secateurs.utils.registry import Registry
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.channel_choice import SELECTIONS


@dataclasses.dataclass(frozen=True)
class Criterion:
  """An entry of CRITERIA.

  Attributes:
    name: what flags call it.
    kind: `score`, `moments`, `gradient` or `pressure`.
    summary: what it looks at.
    source: where it comes from.
    on_data: whether a score needs samples.
    score: for `score`, a function of the graph and the samples to what `channel_scores` takes.
    normalization: how scores of different layers are made comparable where the source ranks them
      together, a name in `ranking.NORMALIZATIONS`.
    needs: what a network must have for it, to be named where it has not.
    join: how scores of several layers of a channel are joined, see `channel_scores`.
  """

  name: str
  kind: str
  summary: str
  source: str
  on_data: bool = False
  score: Callable[[ChannelGraph, Samples | None], Any] | None = None
  normalization: str = 'mean'
  needs: str = ''
  join: str | None = None


CRITERIA: Registry[Criterion] = Registry('criterion')


def layer_criterion(
  name: str,
  *,
  summary: str,
  source: str,
  normalization: str = 'mean',
  needs: str = '',
  join: str | None = None,
) -> Callable[[LayerCriterion], LayerCriterion]:
  """Registers a function as a criterion of one layer, by which `--cp_select` and `--fp_criterion` rank.

  The function takes a layer and returns one number for each of its output channels, float [channels],
  higher being worth more; or None for layers that it does not judge.

  Args:
    name: what flags call it.
    summary: what it looks at, in a few words.
    source: where it comes from.
    normalization: how scores of different layers are made comparable, a name in
      `ranking.NORMALIZATIONS`.
    needs: what a network must have for it, to be named where it has not.
    join: how scores of several layers of a channel are joined, see `channel_scores`.

  Returns:
    A decorator that returns the function itself.

  Raises:
    ValueError: the name is taken.
  """

  def register(function: LayerCriterion) -> LayerCriterion:
    CRITERIA.add(
      name,
      Criterion(
        name,
        'score',
        summary,
        source,
        score=lambda *_: function,
        normalization=normalization,
        needs=needs,
        join=join,
      ),
    )
    return function

  return register


def names(*kinds: str) -> tuple[str, ...]:
  """Names of the criteria of some kinds."""
  return tuple(name for name, criterion in CRITERIA.items() if criterion.kind in kinds)


def of_filters() -> tuple[str, ...]:
  """Names of the criteria that give a score to each channel of any layer."""
  return tuple(name for name, criterion in CRITERIA.items() if criterion.score is not None)


def unit_scores(
  name: str,
  graph: ChannelGraph,
  units: Sequence[Unit],
  samples: Samples | None,
  follow: Collection[str] = (),
) -> dict[str, np.ndarray]:
  """Scores of the units' channels, float [unit.size] by unit name; higher stays.

  Scores on data are means over all processes, each of which passes its part of the samples.

  Args:
    name: a criterion that has scores.
    graph: the network's channel graph.
    units: what is scored.
    samples: for criteria on data, and for random ones.
    follow: layers that alone decide in the units to which they belong.

  Raises:
    UserError: the criterion cannot judge one of the units.
  """
  criterion = CRITERIA.find(name)
  groups = {group for unit in units for group in groups_of(graph, unit)}
  scores = criterion.score(graph, samples)
  by_group = channel_scores(graph, scores, criterion.join, follow, groups)
  found = {}
  for unit in units:
    if isinstance(unit.key, int):
      found[unit.name] = by_group[unit.key]
    else:  # A layer's own choice among the channels that it reads.
      channels = graph.inputs(unit.key[0])
      pairs = zip(channels.group, channels.element, strict=True)
      found[unit.name] = np.array([by_group[group][element] for group, element in pairs])
  if not criterion.on_data:
    return found
  weight = float(sum(nested.size(batch[1]) for batch in samples.batches))
  *totals, total = distributed.sum(*(scores * weight for scores in found.values()), weight)
  return {unit: scores / total for unit, scores in zip(found, totals, strict=True)}


def groups_of(graph: ChannelGraph, unit: Unit) -> set[int]:
  """Indices of the groups that a unit's channels belong to."""
  if isinstance(unit.key, int):
    return {unit.key}
  return {int(group) for group in graph.inputs(unit.key[0]).group}


_MOMENTS = {
  'lasso': ('first channels on the LASSO path of reconstructing the output', 'He et al. 2017'),
  'backward': (
    'channels whose loss least squares makes up for best go one by one',
    'backward elimination on the sums of He et al. 2017',
  ),
  'thinet': ('channels whose contributions sum up to the least go one by one', 'Luo et al. 2017'),
  'thinet-ls': (
    'channels that leave the least residual of the output, a scalar each, are taken one by one',
    'Luo et al. 2019',
  ),
  'magnitude': ('sum of absolute weights that read the channel', 'Li et al. 2017, by inputs'),
  'random': ('seeded draw, as a control', '-'),
}
for _name in SELECTIONS:
  CRITERIA.add(
    _name,
    Criterion(
      _name,
      'moments',
      *_MOMENTS[_name],
      score=random_scores if _name == 'random' else None,
      normalization='none',
    ),
  )
CRITERIA.add(
  'gradient',
  Criterion(
    'gradient',
    'gradient',
    'norm of the gradient of the discrimination-aware loss by the weights that read the channel',
    'Zhuang et al. 2018',
  ),
)
for _name, _summary, _source in (
  ('group_norm', 'norm of the weights of a penalised group', 'Wen et al. 2016'),
  ('gate', 'mean of a gate that was trained with the network', 'Luo & Wu 2018'),
  ('leverage', "leverage of the channel's column among the layer's weights", 'Hou et al. 2022'),
):
  CRITERIA.add(_name, Criterion(_name, 'pressure', _summary, _source))
layer_criterion('l1', summary='L1 norm of the filter', source='Li et al. 2017')(l1)
layer_criterion('l2', summary='L2 norm of the filter', source='He et al. 2018')(l2)
layer_criterion(
  'bn_gamma',
  summary="|gamma| of the filter's BN",
  source='Liu et al. 2017',
  normalization='none',  # One threshold for the scales of the whole network.
  needs='a batch normalisation with a scale after the layer',
  join='mean',  # As in reg-pruned and prune-regrow.
)(bn_gamma)
layer_criterion(
  'fpgm', summary='sum of distances to the other filters of the layer', source='He et al. 2019'
)(of_each_filter(filters.fpgm))
layer_criterion(
  'lamp',
  summary='squared L2 norm as a fraction of those of all filters of the layer that are no smaller',
  source='Lee et al. 2021, for filters',
  normalization='none',
)(of_each_filter(filters.lamp))
for _name, _score, _summary, _source, _how, _needs in (
  (
    'taylor',
    taylor_scores,
    'square of the sum of gradient * weight over the filter, its bias and its BN, mean over '
    'batches',
    'Molchanov et al. 2019',
    'none',
    '',
  ),
  (
    'taylor_fo',
    on_data('derivative'),
    '|sum over the map of activation * derivative|',
    'Molchanov et al. 2017',
    'l2',
    '',
  ),
  (
    'apoz',
    on_data('nonzero_share'),
    'fraction of activations above zero',
    'Hu et al. 2016',
    'mean',
    '',
  ),
  (
    'entropy',
    on_data('entropy'),
    'entropy of the mean activation over samples',
    'Luo & Wu 2017',
    'mean',
    '',
  ),
  (
    'rank',
    rank_scores,
    'mean matrix rank of the map over samples',
    'Lin et al. 2020 (HRank)',
    'mean',
    'maps of at least 2 x 2',
  ),
):
  CRITERIA.add(
    _name,
    Criterion(_name, 'score', _summary, _source, True, _score, normalization=_how, needs=_needs),
  )
