"""To how many convolutions a ratio of channels applies, and which choice of trunk reaches more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit, convolving
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.groups.members import PRODUCES


def convolutions(graph: ChannelGraph) -> set[str]:
  """Names of the convolutions that mix channels; depthwise ones follow those before them.

  Dense layers on maps or sequences count, too, and all Dense layers where there are no others.
  """
  layers, mixing = graph.traced.flat.layers(), convolving(graph)
  depthwise = (keras.layers.DepthwiseConv2D, keras.layers.DepthwiseConv1D)
  return {
    name for name, layer in layers.items() if name in mixing and not isinstance(layer, depthwise)
  }


def reached(graph: ChannelGraph, units: Sequence[Unit], *, by_inputs: bool) -> int:
  """How many convolutions lose inputs (or, of a ranking of filters, filters) with these units."""
  found: set[str] = set()
  for unit in units:
    if by_inputs or isinstance(unit.key, tuple):
      found |= {*unit.readers} if by_inputs else {unit.key[0]}
    else:
      found |= {*graph.groups[unit.key].layers(PRODUCES)}
  return len(found & convolutions(graph))


def note(
  graph: ChannelGraph,
  units: Callable[[str], Sequence[Unit]],
  trunk: str,
  others: Sequence[str],
  *,
  by_inputs: bool,
  prefix: str,
) -> str:
  """To how many convolutions a ratio applies, in one sentence.

  Args:
    graph: of the network.
    units: gives what is pruned with a choice of trunk.
    trunk: the choice of the run.
    others: the other choices.
    by_inputs: whether layers lose inputs or filters.
    prefix: of the learner's flags.
  """
  total, what = len(convolutions(graph)), 'inputs' if by_inputs else 'filters'
  mine = reached(graph, units(trunk), by_inputs=by_inputs)
  text = f'Ratios apply to the {what} of {mine} of {total} convolutions'
  if trunk != 'keep':
    return f'{text} (--{prefix}trunk {trunk}).'
  more = {one: reached(graph, units(one), by_inputs=by_inputs) for one in others if one != trunk}
  told = [f'{one} {number}' for one, number in more.items() if number > mine]
  if not told:
    return f'{text}.'
  return (
    f'{text}: {what} that residual additions join stay; --{prefix}trunk reaches more: '
    f'{", ".join(told)}.'
  )
