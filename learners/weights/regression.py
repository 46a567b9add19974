"""Layer-wise regression: pruned kernels that give nearly the outputs of the whole ones.

It needs no images: the sums over them are taken once, and kernels with any masks follow from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.features import Features
from secateurs.utils.training.layerwise.linear import is_refittable, is_separable
from secateurs.utils.training.layerwise.maps import MapStore
from secateurs.utils.training.layerwise.targets import find_target

NB_IMAGES = 1024
_GRAM_BATCH, _GRAM_POINTS = 64, 10


def gram_matrices(
  model: keras.Model,
  names: Collection[str],
  batches: Sequence[np.ndarray],
  *,
  seed: int,
  points: int,
  store: MapStore | None = None,
) -> dict[str, np.ndarray]:
  """X^T X / n of the inputs of those layers that have such a matrix, [rows, rows], by layer name.

  `store` keeps feature maps; default: all in memory.
  """
  features = Features(model, model, batches, seed=seed, nb_points=points, store=store)
  flat = features.original
  # Not about the means: nothing makes up for them, so that their error counts.
  return {
    name: features.equations(find_target(flat, name), False).moments(False).gram
    for name in with_gram(flat, names)
  }


def with_gram(flat: FlatModel, names: Collection[str]) -> list[str]:
  """Those of some layers, in order, whose inputs have a matrix: not depthwise, grouped, shared ones."""
  calls = flat.calls_by_layer()

  def has_one(name: str) -> bool:
    call, *others = calls[name]
    fits = is_refittable(call.layer, len(flat.shapes[call.inputs[0]]))
    return fits and not others and not is_separable(call.layer)

  return [name for name in flat.layers() if name in names and has_one(name)]


def regress(
  gram: np.ndarray,
  greatest: float,
  weights: np.ndarray,
  mask: np.ndarray,
  nb_iters: int,
  rate: float,
) -> np.ndarray:
  """Masked weights that give nearly the outputs of the whole ones.

  Minimises tr((V - W)^T G (V - W)) over V with V = V * mask by Nesterov's accelerated gradient
  descent, started at W * mask, with steps of rate / (greatest eigenvalue of G).

  Args:
    gram: G, [p, p].
    greatest: its greatest eigenvalue.
    weights: W, [p, q].
    mask: bool array [p, q].
    nb_iters: steps.
    rate: in (0, 1]; above, the descent may diverge.
  """
  current = ahead = np.where(mask, weights, 0.0)
  if greatest <= 0:
    return current
  momentum = 1.0
  for _ in range(nb_iters):
    before = current
    current = np.where(mask, ahead - rate / greatest * (gram @ (ahead - weights)), 0.0)
    following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
    ahead = current + (momentum - 1) / following * (current - before)
    momentum = following
  return current


class Regression:
  """Kernels that give nearly the outputs of the whole ones, from sums that were taken once."""

  def __init__(self, grams: Mapping[str, np.ndarray], nb_iters: int, rate: float) -> None:
    """`grams`: from `gram_matrices`; kernels without one are only masked."""
    self._grams, self._nb_iters, self._rate = grams, nb_iters, rate
    self._greatest = {name: float(np.linalg.eigvalsh(gram)[-1]) for name, gram in grams.items()}

  def __call__(self, name: str, weights: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The kernel of a layer where `mask`, of the same shape, is not zero."""
    if name not in self._grams or not self._nb_iters:
      return weights * mask
    rows = weights.reshape(-1, weights.shape[-1]).astype(np.float64)
    given = self._grams[name], self._greatest[name], rows, mask.reshape(rows.shape) > 0
    return regress(*given, self._nb_iters, self._rate).reshape(weights.shape)


def regression_of(
  model: keras.Model,
  names: Sequence[str],
  batches: Callable[[int], tf.data.Dataset],
  *,
  seed: int,
  nb_iters: int,
  rate: float,
  store: MapStore | None = None,
) -> Regression:
  """The regression of kernels on their own outputs over some training images.

  Args:
    model: float32, with the trained weights.
    names: of the kernels' layers.
    batches: gives batches of a size, the same on all processes; each takes its part.
    seed: of the sampled positions.
    nb_iters: steps of the regression.
    rate: their size, as a fraction of the largest stable one.
    store: where feature maps are kept meanwhile; default: all in memory.
  """
  index, nb_ranks = distributed.shard()
  mine = batches(_GRAM_BATCH).take(NB_IMAGES // _GRAM_BATCH).shard(nb_ranks, index)
  images = [nested.as_numpy(batch[0]) for batch in mine]
  grams = gram_matrices(model, names, images, seed=seed, points=_GRAM_POINTS, store=store)
  return Regression(grams, nb_iters, rate)
