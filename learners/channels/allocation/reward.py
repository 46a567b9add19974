"""What candidates of a search of per-layer preserve ratios are judged by, see `trials`."""

from __future__ import annotations

from collections.abc import Mapping

import tf_keras as keras

from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.run.training.judging import Judge
from secateurs.utils.graph.flat.walk import flatten_model


class Reward:
  """Goodness of candidates on some images, after a closed-form refit of each layer by itself."""

  def __init__(self, working: keras.Model, refits: LayerRefits, judge: Judge) -> None:
    """`working`: a network with the original's weights, which are changed; `judge` judges it.

    `refits` may be shared by several; it should hold what it has solved (`LayerRefits.remember`).
    """
    self._layers = flatten_model(working).layers()
    self._refits, self._judge = refits, judge

  def __call__(self, counts: Mapping[str, int]) -> float:
    """Goodness of the score with so many channels of each unit: greater is better."""
    self._refits.apply(self._layers, counts)
    return self._judge.goodness()
