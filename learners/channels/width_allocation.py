"""Widths by what each unit loses when it is pruned alone: within a budget, a time or a memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation import amc_widths, ram, timed
from secateurs.learners.channels.allocation.amc_config import AMC
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.latency import LITTLE
from secateurs.learners.channels.allocation.registry import ALLOCATIONS
from secateurs.learners.channels.allocation.reward import Reward
from secateurs.learners.channels.allocation.search import WidthSearch, summary
from secateurs.learners.channels.allocation.sensitivity import losses_of, say_curve, unit_parts
from secateurs.learners.channels.cuts.cutting import first_channels
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import statistics
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.channels.widths import Widths
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.judging import Judge, judging_samples, judging_split
from secateurs.utils import nested
from secateurs.utils.graph import ChannelGraph


def allocate(widths: Widths) -> None:
  """Measures what each unit loses when it is pruned alone, and allocates the budget by that.

  Raises:
    UserError: the budget is out of reach.
  """
  config, state, site = widths.config, widths.state, widths.site
  original, working = site.original(), site.original()
  graph = site.graph(original)
  units, total = site.units(graph), graph.counts().macs
  agent = config.prune_option == AMC
  least = amc_widths.least_by_agent(config, units) if agent else None
  choices = Choices(graph, units, config.step, least=least)
  measured = widths.by_table or widths.by_memory
  budget = 0.0 if measured else widths.budget(choices, total)
  state.macs_ratio = budget / total
  samples = site.samples()
  batches, method = [sample[0] for sample in samples], site.method(graph, units, samples)
  if agent:
    _ask_agent(widths, choices, budget, original, working, batches, method)
    return
  refits = _scan(widths, original, working, units, batches, method)
  losses = losses_of(state.divergence, units)
  if widths.by_table:
    _allocate_time(widths, graph, units, losses)
    return
  if widths.by_memory:
    asked = ram.Asked(config.target_ram, config.prefix)
    state.counts, state.ram = ram.allocate(
      asked, graph, units, losses, first_channels(units), step=config.step
    )
    state.macs_ratio = state.ram['fraction']
    return
  if config.nb_rlouts == 1 and config.target_latency is None:
    request = widths.request(units, widths.ratio)
    request = dataclasses.replace(request, choices=choices, budget=budget, losses=losses)
    state.counts = ALLOCATIONS.find(config.prune_option).counts(request)
    return
  site.save()
  inputs, targets = judging_samples(site.helper, config.nb_smpls_reward)

  def judge_of(network: keras.Model) -> Judge:
    return Judge(network, inputs, targets, site.helper.task)

  def further() -> tuple[keras.Model, Judge]:
    network = site.original()
    return network, judge_of(network)

  search = WidthSearch(
    choices,
    choices.prices(losses),
    units,
    original,
    working,
    refits,
    batches,
    method,
    judge_of(working),
    further,
    site.jobs,
  )
  _search(widths, search, graph, budget, total, nested.size(targets))


def _ask_agent(
  widths: Widths,
  choices: Choices,
  budget: float,
  original: keras.Model,
  working: keras.Model,
  batches: Sequence[np.ndarray],
  method: Method,
) -> None:
  config, site = widths.config, widths.site
  readers = statistics(original, working, choices.units, batches, method)
  samples = judging_samples(site.helper, config.nb_smpls_reward)
  refits = LayerRefits(original, choices.units, readers, method)
  refits.remember()
  reward = Reward(working, refits, Judge(working, *samples, site.helper.task))
  amc_widths.allocate(config, widths.state, choices, budget, reward, site)


def _allocate_time(
  widths: Widths, graph: ChannelGraph, units: Sequence[Unit], losses: Mapping[str, np.ndarray]
) -> None:
  config, state, site = widths.config, widths.state, widths.site
  asked = timed.asked_by(config, site.original_tflite, site.nb_threads)
  state.counts, state.latency = timed.allocate(
    asked,
    graph,
    units,
    losses,
    first_channels(units),
  )
  state.macs_ratio = state.latency['fraction']


def _scan(
  widths: Widths,
  original: keras.Model,
  working: keras.Model,
  units: Sequence[Unit],
  batches: Sequence[np.ndarray],
  method: Method,
) -> LayerRefits:
  """Measures what pruning each unit alone costs, unless an earlier process has."""
  site = widths.site
  readers = statistics(original, working, units, batches, method)
  refits = LayerRefits(original, units, readers, method)
  if widths.state.divergence is None:
    images, _ = judging_samples(site.helper, divergence.NB_IMAGES)
    networks = [working, *(site.original() for _ in range(site.jobs - 1))]
    scanned, *further = [(network, unit_parts(network, units, refits)) for network in networks]
    widths.state.divergence = divergence.scan(
      *scanned, images, site.helper.task, say_curve, further=further
    )
  return refits


def _search(
  widths: Widths,
  search: WidthSearch,
  graph: ChannelGraph,
  budget: float,
  total: int,
  nb_samples: int,
) -> None:
  config, state, site = widths.config, widths.state, widths.site
  trials, best, goodness = search.run(
    budget,
    site.trials(),
    nb_trials=config.nb_rlouts,
    nb_random=config.nb_rlouts_min,
    seed=site.seed,
    save=site.save,
  )
  final = search.candidate(budget, best.factors)
  if config.target_latency is not None:  # Other ratios of the same MACs are not quite as fast.
    least = search.choices.least() / total + LITTLE
    found = widths.fraction_of_time(
      graph,
      search.units,
      lambda fraction: search.candidate(fraction * total, best.factors).counts,
      least,
    )
    state.latency = found
    final = search.candidate(found['fraction'] * total, best.factors)
    goodness = search.reconstructed(final.counts).goodness
  state.counts = final.counts
  split = judging_split(site.helper)
  state.search = summary(trials, best, final, goodness, nb_samples, split)
