"""What measuring kernels takes, from the network's graph: scans, sums for regressions, trials."""

from __future__ import annotations

from collections.abc import Collection

import tf_keras as keras

from secateurs.learners.run.preflight.budget import COPIES, Budget, sample_bytes
from secateurs.learners.run.preflight.estimate import Need
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.judging import kept_bytes
from secateurs.learners.weights.configs import WsConfig
from secateurs.learners.weights.regression import NB_IMAGES, with_gram
from secateurs.utils.graph.counts.memory import inference_bytes, map_bytes, tensor_bytes
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.layerwise.frontier import bytes_per_image
from secateurs.utils.training.layerwise.linear import nb_rows

_GRAM_BYTES, _HALVES = 8, 2  # Of a number; kept maps take two bytes in place of four.


def scan_needs(
  budget: Budget, model: keras.Model, kernels: Collection[str], config: WsConfig, batch_size: int
) -> list[Need]:
  """What finding the ratios takes; nothing where they follow from the flags.

  A scan judges each network on samples. A search holds, beside, so many networks with their optimizers
  and one matrix of rows x rows numbers for each kernel; its largest step is the sums over feature maps,
  the scan of divergences or a trial's training.

  Args:
    budget: of the run.
    model: whose kernels are measured.
    kernels: names of their layers.
    config: how ratios are found, and on how many networks at once.
    batch_size: samples of a step of a trial's training.
  """
  flat, jobs = flatten_model(model), config.jobs
  maps = map_bytes(flat)
  each = sum(tensor_bytes(flat, number) for number, _ in flat.inputs)
  judged = (1 + jobs) * kept_bytes(config.nb_judged(batch_size), each)
  if config.protocol == 'sensitivity':  # One of the networks is the run's own.
    largest = max(bytes_per_image(flat, place) for place in range(len(flat.calls)))
    held = min(config.nb_judged(batch_size) * largest, divergence.MAX_BYTES)
    scanned = jobs * (held + inference_bytes(maps))
    size = budget.taken + (jobs - 1) * budget.weights + judged + scanned
    return [Need('scanning kernels', size, size)]
  if config.protocol != 'optimal':
    return []
  layers = flat.layers()
  grams = sum(_GRAM_BYTES * nb_rows(layers[name]) ** 2 for name in with_gram(flat, kernels))
  held = budget.taken + jobs * COPIES * budget.weights + grams + judged
  summed = min(NB_IMAGES * maps.inference // _HALVES, budget.cache_room) + inference_bytes(maps)
  scanned = jobs * (divergence.MAX_BYTES + inference_bytes(maps))
  tried = jobs * batch_size * sample_bytes(maps)
  least = held + max(scanned, tried)
  return [Need('searching ratios', max(held + summed, least), least)]
