"""Criteria: what a channel is worth. Higher means that it stays.

Three kinds, by what they are computed from:

- `score`: a number for each channel, from the weights of single layers or from what the network makes
  of images; the best of each unit stay.
- `moments`: a choice among the channels that a layer reads, from the moments of its inputs and
  outputs (`layerwise.channel_choice`), made while layers are pruned one after the other.
- `gradient`: a choice that is repeated while layers are trained (dis-chn-pruned).

A criterion of one layer is a function with a decorator:

  @layer_criterion('l0', summary='number of weights that are not zero', source='...')
  def l0(layer): ...  # One number for each output channel, or None for layers that it does not judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.learners.channels.units import Unit
from secateurs.utils.graph import ChannelGraph, activation_scores, channel_scores
from secateurs.utils.graph.choice.scores import LayerCriterion, bn_gamma, l1, l2
from secateurs.utils.registry import Registry
from secateurs.utils.training.layerwise.channel_choice import SELECTIONS

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Scores = Mapping[str, np.ndarray]
"""One number for each channel of a unit, by unit name."""


@dataclasses.dataclass(frozen=True)
class Samples:
  """What criteria on data look at.

  Attributes:
    batches: of (inputs, targets).
    loss: of (targets, outputs), a mean over the batch.
  """

  batches: Sequence[tuple[Any, Any]]
  loss: Loss


@dataclasses.dataclass(frozen=True)
class Criterion:
  """An entry of CRITERIA.

  Attributes:
    name: what flags call it.
    kind: `score`, `moments` or `gradient`.
    summary: what it looks at.
    source: where it comes from.
    on_data: whether a score needs samples.
    score: for `score`, a function of the graph and the samples to what `channel_scores` takes.
  """

  name: str
  kind: str
  summary: str
  source: str
  on_data: bool = False
  score: Callable[[ChannelGraph, Samples | None], Any] | None = None


CRITERIA: Registry[Criterion] = Registry('criterion')


def layer_criterion(
  name: str, *, summary: str, source: str
) -> Callable[[LayerCriterion], LayerCriterion]:
  """Registers a criterion of one layer: one number for each output channel, or None."""

  def register(function: LayerCriterion) -> LayerCriterion:
    CRITERIA.add(name, Criterion(name, 'score', summary, source, score=lambda *_: function))
    return function

  return register


def names(*kinds: str) -> tuple[str, ...]:
  """Names of the criteria of some kinds."""
  return tuple(name for name, criterion in CRITERIA.items() if criterion.kind in kinds)


def unit_scores(
  name: str, graph: ChannelGraph, units: Sequence[Unit], samples: Samples | None
) -> dict[str, np.ndarray]:
  """Scores of the units' channels, float [unit.size] by unit name; higher stays.

  Args:
    name: a criterion of kind `score`.
    graph: the network's channel graph.
    units: what is scored.
    samples: for criteria on data.

  Raises:
    UserError: the criterion cannot judge one of the units.
  """
  judged = CRITERIA.find(name).score(graph, samples)
  by_group = channel_scores(graph, judged)
  found = {}
  for unit in units:
    if isinstance(unit.key, int):
      found[unit.name] = by_group[unit.key]
    else:  # A layer's own choice among the channels that it reads.
      channels = graph.inputs(unit.key[0])
      pairs = zip(channels.group, channels.element, strict=True)
      found[unit.name] = np.array([by_group[group][element] for group, element in pairs])
  return found


def best(scores: np.ndarray, nb_keep: int) -> np.ndarray:
  """Bool array [c] of the `nb_keep` highest scores; of equal ones the first stay."""
  keep = np.zeros(len(scores), bool)
  keep[np.argsort(-scores, kind='stable')[:nb_keep]] = True
  return keep


def _on_data(kind: str) -> Callable[[ChannelGraph, Samples | None], Any]:
  def score(graph: ChannelGraph, samples: Samples | None) -> Any:
    loss = samples.loss if kind == 'derivative' else None
    return activation_scores(graph, kind, list(samples.batches), loss)

  return score


_MOMENTS = {
  'lasso': ('first channels on the LASSO path of reconstructing the output', 'He et al. 2017'),
  'backward': (
    'channels whose loss least squares makes up for best go one by one',
    'backward elimination on the sums of He et al. 2017',
  ),
  'magnitude': ('sum of absolute weights that read the channel', 'Li et al. 2017, by inputs'),
  'random': ('seeded draw, as a control', '-'),
}
for _name in SELECTIONS:
  CRITERIA.add(_name, Criterion(_name, 'moments', *_MOMENTS[_name]))
CRITERIA.add(
  'gradient',
  Criterion(
    'gradient',
    'gradient',
    'norm of the gradient of the discrimination-aware loss by the weights that read the channel',
    'Zhuang et al. 2018',
  ),
)
layer_criterion('l1', summary='L1 norm of the filter', source='Li et al. 2017')(l1)
layer_criterion('l2', summary='L2 norm of the filter', source='He et al. 2018')(l2)
layer_criterion('bn_gamma', summary="|gamma| of the filter's BN", source='Liu et al. 2017')(
  bn_gamma
)
for _name, _kind, _summary, _source in (
  ('taylor_fo', 'derivative', '|sum over the map of activation * derivative|', 'Molchanov 2017'),
  ('apoz', 'nonzero_share', 'fraction of activations above zero', 'Hu et al. 2016'),
  ('entropy', 'entropy', 'entropy of the mean activation over samples', 'Luo & Wu 2017'),
):
  CRITERIA.add(
    _name, Criterion(_name, 'score', _summary, _source, on_data=True, score=_on_data(_kind))
  )
