"""ChannelSelection in a training network: where a pre-activation network's layers choose channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tf_keras as keras

from secateurs.utils.graph import ChannelGraph, ChannelSelection
from secateurs.utils.graph.counts.copying import copy_flat, copy_layer


def with_selections(model: keras.Model) -> keras.Model:
  """A network with a `ChannelSelection` after each normalisation that serves one reader of a trunk.

  It passes all channels, and changes nothing (Liu et al. 2017 has the layer at this place). When the
  network is sliced, channels are selected before the normalisation, which is cut: the same numbers for
  less work. Where nothing is cut, the layer disappears.

  Returns:
    The network itself where there is no such normalisation, or a copy with own layers.
  """
  graph = ChannelGraph(model)
  norms = [
    name
    for name in graph.own_chains
    if hasattr(graph.traced.flat.layers()[name], 'moving_mean') and _shared(graph, name)
  ]
  if not norms:
    return model

  def copy(
    layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]
  ) -> tuple[Callable, Any]:
    made, result = copy_layer(layer, name, args, kwargs)
    if name not in norms:
      return made, result
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    selection = ChannelSelection(range(result.shape[axis]), axis, name=f'{name}_selection')
    return made, selection(result)

  return copy_flat(graph.traced.flat, copy=copy)


def _shared(graph: ChannelGraph, name: str) -> bool:
  """Whether other layers than its reader need what a normalisation is given."""
  flat = graph.traced.flat
  (call,) = flat.calls_by_layer()[name]
  return sum(one.inputs.count(call.inputs[0]) for one in flat.calls) > 1
