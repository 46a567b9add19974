"""How much each kernel can lose: the scan that Han et al. choose their thresholds from.

One kernel at a time is pruned by magnitude while all others stay whole, and the loss on some images is
measured, without any training. Then every kernel may lose as much as raises the loss by the same
amount, and that amount is what meets the total.

Han, Pool, Tran & Dally 2015, "Learning both Weights and Connections for Efficient Neural Networks"
(arXiv:1506.02626), section 5 and figure 6.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.divergence import Curve, Part
from secateurs.learners.weights.ratios import meet_total, most_zeros
from secateurs.utils import nested
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.engine.masks import nb_kept
from secateurs.utils.training.engine.patterns import Pattern
from secateurs.utils.training.tasks.task import Task

RATIOS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
QUALITIES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)


def sigma_ratio(weights: np.ndarray, quality: float) -> float:
  """The fraction of weights below `quality` standard deviations of the kernel: Han's threshold."""
  return float(np.mean(np.abs(weights) < quality * weights.std()))


def first_calls(model: keras.Model) -> dict[int, int]:
  """Number of the first call that reads each weight, by the weight's id."""
  first: dict[int, int] = {}
  for index, call in enumerate(flatten_model(model).calls):
    for weight in call.layer.weights:  # A layer may hold several kernels.
      first.setdefault(id(weight), index)
  return first


def scan(
  networks: Sequence[tuple[keras.Model, Mapping[str, tf.Variable]]],
  samples: tuple[Any, Any],
  task: Task,
  pattern: Pattern,
  *,
  by_sigma: bool,
) -> dict[str, Curve]:
  """The loss against the sparsity of each kernel alone; the kernels are left as they were.

  Args:
    networks: each with its kernels by name; of several with the same weights, as many kernels are
      pruned at the same time, with the same curves.
    samples: inputs and targets [n, ...]; fewer are taken where their maps are large
      (`divergence.nb_scanned`).
    task: whose loss it is.
    pattern: of the zeros.
    by_sigma: whether thresholds go by standard deviations (QUALITIES) or by shares (RATIOS).
  """
  (model, parts), *further = [
    (model, _parts(model, kernels, pattern, by_sigma=by_sigma)) for model, kernels in networks
  ]
  inputs, targets = samples
  nb_scanned = divergence.nb_scanned(model, parts, nested.size(inputs))
  if nb_scanned < nested.size(inputs):
    say(f'Judged on {nb_scanned} samples: the maps of {nested.size(inputs)} would take over 1 GiB.')
  return divergence.scan(model, parts, inputs, task, say_curve, targets, further, by_loss=True)


def _parts(
  model: keras.Model, kernels: Mapping[str, tf.Variable], pattern: Pattern, *, by_sigma: bool
) -> list[Part]:
  first = first_calls(model)

  def part(name: str, kernel: tf.Variable) -> Part:
    weights = kernel.numpy()

    def prune(ratio: float) -> None:
      kernel.assign(weights * pattern.mask(weights, nb_kept(weights.size, ratio)))

    if by_sigma:
      ratios = sorted({sigma_ratio(weights, quality) for quality in QUALITIES} - {0.0})
    else:
      ratios = list(RATIOS)
    points = [(ratio, functools.partial(prune, ratio)) for ratio in ratios]
    return Part(name, first[id(kernel)], points, functools.partial(kernel.assign, weights))

  return [part(*one) for one in kernels.items()]


def say_curve(number: int, total: int, name: str, curve: Curve) -> None:
  """Prints some points of a kernel's curve."""
  losses = ', '.join(f'{ratio:.2f}: {loss:.3f}' for ratio, loss in curve[1::3])
  say(f'scan  kernel {number}/{total}  {name}: loss at sparsity {losses}')


def equal_harm(
  curves: Mapping[str, Sequence[tuple[float, float]]], sizes: Mapping[str, int], ratio: float
) -> dict[str, int]:
  """Kept weights by kernel name when each kernel alone raises the loss by the same amount.

  Curves are taken as rising (a loss that falls again counts as not falling), and as linear between
  their points; no kernel is left less than a tenth of the total's density.

  Args:
    curves: what `scan` gives.
    sizes: number of weights by kernel name.
    ratio: share of all weights that go, in [0, 1]; met to one weight.
  """
  names = list(sizes)
  counts = np.array([sizes[name] for name in names], float)
  total = nb_kept(int(counts.sum()), ratio)
  most = most_zeros(ratio)
  shares, rises = {}, {}
  for name in names:
    points = np.array([*curves[name]], float)
    shares[name] = np.minimum(np.append(points[:, 0], 1.0), most)
    rise = np.maximum.accumulate(points[:, 1] - points[0, 1])
    # After the last point the loss rises as steeply as a network that guesses: far out of reach.
    rises[name] = np.append(rise, max(10 * rise[-1], rise[-1] + 1)) + 1e-9 * np.arange(
      len(rise) + 1
    )

  def ratios(harm: float) -> np.ndarray:
    return np.array([np.interp(harm, rises[name], shares[name]) for name in names])

  low, high = 0.0, max(rise[-1] for rise in rises.values())
  for _ in range(100):
    middle = (low + high) / 2
    if (1 - ratios(middle)) @ counts > total:
      low = middle
    else:
      high = middle
  kept = np.maximum((1 - ratios(high)) * counts, 1.0)
  return dict(zip(names, meet_total(kept, counts, total), strict=True))
