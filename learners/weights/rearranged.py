"""Channels in the order of their norms, so that 1xN blocks hold weights of about equal size."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.given import given_weights
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.zeros import nonzeros
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.slicing.rearranging import by_norm, rearrange
from secateurs.utils.training.models.weights import assign_weights, named_weights

KERNELS_NOTE = (
  'The zeros lie in blocks of whole kernels. They make the sparse .tflite file smaller; TensorFlow '
  "Lite's XNNPACK runtime has sparse kernels for 1x1 convolutions only, so that others run as before."
)


def sort_channels(settings: Settings, model: keras.Model) -> None:
  """Permutes a network's weights in place, and proves that its outputs stay (Lin et al. 2021).

  Args:
    settings: its precision.
    model: in the precision of the training.

  Raises:
    UserError: the outputs change.
  """
  plain = settings.in_float32(model)
  nb_sorted, nb_groups = _sort(plain)
  model.set_weights(plain.get_weights())
  say(f'rearrange  {nb_sorted} of {nb_groups} channel groups sorted by the norm of their filters')


def sorted_nonzeros(settings: Settings, model: keras.Model) -> dict[Any, np.ndarray]:
  """`zeros.nonzeros`, with channels in the order that `sort_channels` gives them.

  Args:
    settings: with the weights that the user gave.
    model: the network that the weights are for.
  """
  found = nonzeros(settings, model)
  if not found:
    return {}
  given = settings.in_float32(settings.helper.build_model(settings.run.seed))
  assign_weights(named_weights(given), *given_weights(settings))
  _sort(given)
  weights = named_weights(given)
  return {
    weight.ref(): weights[name].numpy() != 0
    for name, weight in named_weights(model).items()
    if weight.ref() in found
  }


def _sort(model: keras.Model) -> tuple[int, int]:
  """Permutes a float32 network; returns how many of its channel groups, and how many it has."""
  graph = ChannelGraph(model)
  orders = by_norm(graph)
  rearrange(graph, orders)
  return len(orders), len(graph)
