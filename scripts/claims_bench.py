"""A trained network, its data, and what the claims of papers are measured with, in one shot."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation import solvers
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.sensitivity import losses_of, unit_parts
from secateurs.learners.channels.criteria.data_criteria import Samples
from secateurs.learners.channels.criteria.judged import makers, unit_keys
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.cuts.units import Unit, find_units
from secateurs.learners.channels.repair.filter_repair import repair
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import prune, statistics
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.results.measuring import evaluate_model
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.judging import judging_samples
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.experiments import RESNET_AT_CIFAR10
from secateurs.nets.resnet import ResNetConfig
from secateurs.utils import nested
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.choice.taps import OUTPUT
from secateurs.utils.training.models.weights import assign_weights, named_weights

_BATCH, NB_REFIT, _NB_SCORED, NB_BN = 64, 20, 10, 20

Kept = Mapping[str, np.ndarray]


class Bench:
  """A trained network, its data, and what can be done to it in one shot."""

  def __init__(self, arguments: argparse.Namespace, size: int = 20, seed: int = 0) -> None:
    config = DataConfig(
      data_dir_local=arguments.data, nb_smpls_val=2000, nb_smpls_eval=arguments.eval
    )
    self.helper = RESNET_AT_CIFAR10.make(ResNetConfig(resnet_size=size), config)
    self.seed = seed
    path = Path(arguments.weights) / f'resnet{size}_cifar10.npz'
    with np.load(path) as archive:
      self._weights = dict(archive)
    self._path = str(path)

  def network(self) -> keras.Model:
    """A new copy of the trained network."""
    model = self.helper.build_model(0)
    assign_weights(named_weights(model), self._weights, self._path)
    return model

  def accuracy(self, model: keras.Model) -> float:
    """On the test images, in percent."""
    return 100 * evaluate_model(model, self.helper, RunConfig()).score.value

  def batches(self, number: int) -> list[tuple]:
    """Training images, neither shifted nor mirrored, with their labels."""
    drawn = self.helper.train_batches(_BATCH, self.seed, augment='none')
    return [nested.as_numpy((batch[0], batch[1])) for batch in drawn.take(number)]

  def images(self, number: int) -> list[np.ndarray]:
    """The images of these batches."""
    return [batch[0] for batch in self.batches(number)]

  def method(self, **options: object) -> Method:
    """How layers are refit."""
    return Method(seed=self.seed, **options)

  def reconstructed(self, ratio: float, trunk: str = 'keep', **options: object) -> keras.Model:
    """A network whose layers keep a fraction of their inputs (channel pruning)."""
    original, model = self.network(), self.network()
    units = find_units(ChannelGraph(original), trunk).units
    counts = {unit.name: max(round(ratio * unit.size), 1) for unit in units}
    prune(original, model, units, counts, self.images(NB_REFIT), self.method(**options))
    return model

  def keys(self, graph: ChannelGraph, units: Sequence[Unit], criterion: str, order: str) -> dict:
    """By which filters are ranked."""
    samples = Samples(
      self.batches(_NB_SCORED),
      self.helper.task.loss,
      OUTPUT,
      makers(graph, units),
      seed=self.seed,
    )
    return unit_keys(criterion, graph, units, samples, order=order, normalization='none')[0]

  def cut(self, counts: Mapping[str, int], keys: Mapping[str, np.ndarray], how: str) -> float:
    """Accuracy with the lowest filters gone, repaired as `how` says (see `repair`)."""
    model = self.network()
    graph = ChannelGraph(model)
    units = filter_units(graph, 'keep').units
    kept: Kept = {unit.name: best(keys[unit.name], counts[unit.name]) for unit in units}
    repair(
      how,
      self.network,
      model,
      graph,
      units,
      kept,
      self.method(refit_all=True),
      images=functools.partial(self.images, NB_REFIT),
      bn_images=functools.partial(self.images, NB_BN),
    )
    return self.accuracy(model)

  def divergence_widths(
    self, graph: ChannelGraph, units: Sequence[Unit], keys: Mapping, budget: float
  ) -> dict[str, int]:
    """Widths at an equal price by the divergence of each layer alone, refit."""
    original, working = self.network(), self.network()
    method = self.method(refit_all=True, scores=keys)
    readers = statistics(original, working, units, self.images(NB_REFIT), method)
    parts = unit_parts(working, units, LayerRefits(original, units, readers, method))
    images, _ = judging_samples(self.helper, divergence.NB_IMAGES)
    curves = divergence.scan(working, parts, images, self.helper.task)
    choices = choices_of(graph, units)
    return solvers.by_price(choices, budget, choices.prices(losses_of(curves, units)))


def choices_of(graph: ChannelGraph, units: Sequence[Unit]) -> Choices:
  """Widths of the units, a tenth of each at least."""
  least = {unit.name: max(round(0.1 * unit.size), 1) for unit in units}
  return Choices(graph, units, least=least)
