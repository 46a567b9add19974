"""Criteria that look at data: gradients by weights, ranks of maps, and what maps hold.

They run over batches of training images, with a line on the progress where that takes long.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.utils import nested
from secateurs.utils.graph import ChannelGraph, activation_scores
from secateurs.utils.graph.choice.ranks import matrix_ranks
from secateurs.utils.graph.choice.taps import INPUT, OUTPUT, Loss, Probe, Side
from secateurs.utils.graph.flat.rebuild import variables
from secateurs.utils.graph.rules.registry import rule_of
from secateurs.utils.training import distributed, tally
from secateurs.utils.training.engine.progress import format_seconds

_SECONDS_BETWEEN_LINES = 10.0


@dataclasses.dataclass(frozen=True)
class Samples:
  """What criteria on data look at, and how.

  Attributes:
    batches: of (inputs, targets).
    loss: of (targets, outputs), a mean over the batch.
    side: what of layers is looked at: what they read (`input`) or what they make (`output`).
    layers: names of these layers; None for all.
    additions: whether what layers make is looked at after additions, too.
    seed: of random scores.
    found: what criteria leave for the report, by name.
  """

  batches: Sequence[tuple[Any, Any]]
  loss: Loss | None = None
  side: Side = INPUT
  layers: Collection[str] | None = None
  additions: bool = True
  seed: int = 0
  found: dict[str, Any] = dataclasses.field(default_factory=dict)


class Shown(Sequence):
  """Batches that report how far one has come in them."""

  def __init__(self, title: str, batches: Sequence[Any]) -> None:
    self._title, self._batches = title, batches

  def __len__(self) -> int:
    return len(self._batches)

  def __getitem__(self, index: int) -> Any:
    return self._batches[index]

  def __iter__(self) -> Iterator[Any]:
    began = told = time.perf_counter()
    for number, batch in enumerate(self._batches):
      tally.scored(nested.size(batch[0]) * distributed.size())
      yield batch
      now, done = time.perf_counter(), number + 1
      if now - told > _SECONDS_BETWEEN_LINES and done < len(self):
        left = (now - began) / done * (len(self) - done)
        say(f'score  {self._title}  batch {done}/{len(self)}  ETA {format_seconds(left)}')
        told = now


def on_data(kind: str) -> Callable[[ChannelGraph, Samples], Mapping[Any, np.ndarray]]:
  """The criterion of `activation_scores` of a kind."""

  def score(graph: ChannelGraph, samples: Samples) -> Mapping[Any, np.ndarray]:
    return activation_scores(
      graph,
      kind,
      Shown(kind, samples.batches),
      samples.loss if kind == 'derivative' else None,
      side=samples.side,
      layers=None if samples.side == INPUT else samples.layers,
      additions=samples.additions,
    )

  return score


def random_scores(
  graph: ChannelGraph, samples: Samples | None
) -> Callable[[keras.layers.Layer], np.ndarray | None]:
  """Uniform numbers in [0, 1) for each filter, that follow from the seed and the layer's name."""
  del graph
  seed = 0 if samples is None else samples.seed

  def score(layer: keras.layers.Layer) -> np.ndarray | None:
    weights = rule_of(layer).filters(layer)
    if weights is None:
      return None
    rng = np.random.default_rng([seed, zlib.crc32(layer.name.encode())])
    return rng.random(weights.shape[-1])

  return score


def taylor_scores(graph: ChannelGraph, samples: Samples) -> dict[str, np.ndarray]:
  """(sum of gradient * weight over a filter, its bias and its BN)^2, mean over batches.

  Molchanov et al. 2019 (arXiv:1906.10771), equation 8. The loss is taken in inference mode, so that
  the scores do not depend on the size of a batch's statistics.

  Returns:
    By name of a layer that makes channels: float [channels].
  """
  traces = {n: t for n, t in graph.first_traces.items() if t.produced is not None}
  norms = {name: _norm_after(graph, name) for name in traces}
  # Freezing a layer leaves the `trainable` of its weights set: their filters are worth something, too.
  weights = {variable.ref(): variable for variable in graph.model.weights if variable.trainable}

  @tf.function
  def products(images: Any, targets: Any) -> list[tf.Tensor]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(list(weights.values()))
      loss = samples.loss(targets, graph.model(images, training=False))
    gradients = tape.gradient(loss, list(weights.values()), unconnected_gradients='zero')
    return [tf.convert_to_tensor(g) * v for g, v in zip(gradients, weights.values(), strict=True)]

  totals: dict[str, Any] = {}
  for images, targets, *_ in Shown('taylor', samples.batches):
    found = dict(zip(weights, (p.numpy() for p in products(images, targets)), strict=True))
    for name, trace in traces.items():
      total = _filter_sums(trace.call.layer, found)
      if total is not None and norms[name] is not None:
        total = total + sum(found[v.ref()] for v in norms[name].weights if v.ref() in found)
      if total is not None:
        totals[name] = totals.get(name, 0.0) + total**2
  return {name: total / len(samples.batches) for name, total in totals.items()}


def _filter_sums(
  layer: keras.layers.Layer, products: Mapping[Any, np.ndarray]
) -> np.ndarray | None:
  """Sums over each filter of a product that is known for each weight, [filters]."""
  mine = [variable for variable in variables(layer) if variable.ref() in products]
  values = [variable.numpy() for variable in mine]
  try:  # The layer's rule knows which of its weights are whose.
    for variable in mine:
      variable.assign(products[variable.ref()])
    held = rule_of(layer).filters(layer)
  finally:
    for variable, value in zip(mine, values, strict=True):
      variable.assign(value)
  if held is None:
    return None
  total = held.sum(axis=0, dtype=np.float64)
  bias = getattr(layer, 'bias', None)
  if isinstance(bias, tf.Variable) and bias.ref() in products and bias.shape == total.shape:
    total = total + products[bias.ref()]
  return total


def _norm_after(graph: ChannelGraph, name: str) -> keras.layers.Layer | None:
  """The batch normalisation that alone reads what a layer makes."""
  flat = graph.traced.flat
  tensor = flat.calls_by_layer()[name][0].outputs[0]
  readers = [call for call in flat.calls if tensor in call.inputs]
  if len(readers) == 1 and isinstance(readers[0].layer, keras.layers.BatchNormalization):
    return readers[0].layer
  return None


def rank_scores(graph: ChannelGraph, samples: Samples) -> dict[str, np.ndarray]:
  """Mean matrix rank of each channel's map after normalisation and activation (Lin et al. 2020).

  Leaves `rank`, the mean over each batch [batches, channels] by layer, in `samples.found`.

  Returns:
    By name of a layer whose maps are at least 2 x 2: float [channels], mean over the samples.
  """
  probe = Probe(graph, OUTPUT, samples.layers, additions=samples.additions)
  by_batch: dict[str, list[np.ndarray]] = {}
  sizes = []
  for batch in Shown('rank', samples.batches):
    sizes.append(nested.size(batch[0]))
    for name, maps in probe.tensors(batch[0]):
      if maps.ndim == 4 and min(maps.shape[1:3]) > 1:
        ranks = matrix_ranks(maps.transpose(0, 3, 1, 2)).mean(axis=0)
        by_batch.setdefault(name, []).append(ranks)
  samples.found['rank'] = found = {name: np.array(ranks) for name, ranks in by_batch.items()}
  return {name: np.average(ranks, axis=0, weights=sizes) for name, ranks in found.items()}
