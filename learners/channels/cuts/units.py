"""What can be pruned of a network's convolutions: sets of channels with the layers that read them."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
from collections.abc import Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.shortcuts import is_trunk
from secateurs.learners.run.layer_choice import LayerRule
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, Group
from secateurs.utils.graph.groups.members import CONSUMES, PRODUCES
from secateurs.utils.training.layerwise.linear import MAX_ROWS, is_refittable

L = keras.layers
TRUNKS = ('keep', 'couple', 'gather')


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
  """Channels that are chosen together.

  Attributes:
    name: that of the layer that reads them first, and of what makes them where that layer reads
      several units, as after a concatenation.
    key: what `slice_model` calls them: a group's index, or (layer, 'input') for one layer's choice.
    size: number of channels.
    readers: names of the layers whose kernels sum over them, in order.
    elements: for each reader an int array over its input channels: which of the unit's channels
      each is, or -1.
    attentions: names of the MultiHeadAttentions that read them, too: these are masked, and not refit.
    rule: how many of them stay at least, or just, whatever is allocated.
  """

  name: str
  key: int | tuple[str, str]
  size: int
  readers: tuple[str, ...]
  elements: dict[str, np.ndarray]
  attentions: tuple[str, ...] = ()
  rule: LayerRule = dataclasses.field(default_factory=LayerRule)


@dataclasses.dataclass(frozen=True)
class Units:
  """What can be pruned, and what cannot and why (one sentence per group)."""

  units: list[Unit]
  left: list[str]


def require_layers(graph: ChannelGraph, skip: Sequence[str], prefix: str) -> None:
  """Checks that every pattern of --<prefix>skip matches a layer.

  Raises:
    UserError: one matches none.
  """
  names = list(graph.traced.flat.layers())
  for pattern in skip:
    if not fnmatch.filter(names, pattern):
      raise UserError(
        f'--{prefix}skip names {pattern!r}, but no layer of {graph.model.name} has that name: give '
        'names or patterns such as stage1_*, separated by commas.'
      )


def find_units(
  graph: ChannelGraph,
  trunk: str,
  skip: Sequence[str] = (),
  *,
  prefix: str = 'cp_',
  max_rows: int | None = MAX_ROWS,
  dense: bool = False,
  attentions: bool = False,
) -> Units:
  """Finds the channels that convolutions make and that layers read that can be refit.

  Dense layers on maps or sequences count as convolutions; those on flat rows do where a network has
  no convolutions at all.

  Args:
    graph: the network's channel graph.
    trunk: what is done with channels that residual additions join: `keep` leaves them whole,
      `couple` drops them for all layers of the trunk, `gather` lets every convolution that reads
      them choose its own.
    skip: patterns with * and ?; units of which a reading or making layer matches are left whole.
    prefix: of the flags that messages name.
    max_rows: most rows of a reading layer's kernel; None for any number.
    dense: whether dense layers on flat rows count beside convolutions, too.
    attentions: whether MultiHeadAttentions may read the channels beside layers that can be refit.

  Raises:
    UserError: a pattern matches no layer.
  """
  require_layers(graph, skip, prefix)
  units: list[Unit] = []
  left: list[str] = []
  known: set[int | tuple[str, str]] = set()
  makers = convolving(graph, dense=dense)
  for group in graph.groups:
    found, reason = _units_of(graph, group, makers, trunk, prefix, max_rows, attentions)
    for unit in found:
      if unit.key in known:
        continue  # A layer that reads several trunks chooses once.
      known.add(unit.key)
      touched = {*unit.readers}
      if isinstance(unit.key, int):
        touched |= {*group.layers(PRODUCES)}
      if any(fnmatch.filter(touched, pattern) for pattern in skip):
        left.append(f'{unit.name}: named by --{prefix}skip')
      else:
        units.append(unit)
    if reason:
      left.append(f'{group.name}: {reason}')
  order = {name: number for number, name in enumerate(graph.traced.flat.layers())}
  units.sort(key=lambda unit: order[unit.readers[0]])
  return Units(_distinguished(graph, units), left)


def _distinguished(graph: ChannelGraph, units: list[Unit]) -> list[Unit]:
  """The units, those of one name with what makes their channels added to it."""
  times = collections.Counter(unit.name for unit in units)
  return [
    dataclasses.replace(unit, name=f'{unit.name}:{graph.groups[unit.key].name}')
    if times[unit.name] > 1 and isinstance(unit.key, int)
    else unit
    for unit in units
  ]


def convolving(graph: ChannelGraph, *, dense: bool = False) -> set[str]:
  """Layers whose channels may be chosen from: those that work on maps or sequences, or else Dense.

  With `dense` both.
  """
  shapes, calls = graph.traced.flat.shapes, graph.traced.flat.calls_by_layer()
  convs, flat = set(), set()
  for name, layer in graph.traced.flat.layers().items():
    if 'Conv' in type(layer).__name__:
      convs.add(name)
    elif isinstance(layer, L.Dense):
      on_maps = len(shapes[calls[name][0].inputs[0]]) > 2
      (convs if on_maps else flat).add(name)
  return convs | flat if dense else convs or flat


def _units_of(
  graph: ChannelGraph,
  group: Group,
  makers: set[str],
  trunk: str,
  prefix: str,
  max_rows: int | None,
  attentions: bool,
) -> tuple[list[Unit], str | None]:
  """The units of a group, or why there are none."""
  calls = graph.traced.flat.calls_by_layer()
  shapes = graph.traced.flat.shapes
  readers = [m.layer for m in group.members if m.role == CONSUMES]
  if not group.prunable or makers.isdisjoint(group.layers(PRODUCES)):
    return [], None
  if not group.free.all():
    return [], f'some of its channels are protected ({group.reasons[0]})'
  if not readers:
    return [], 'no layer reads its channels'
  refittable = {
    name
    for name in readers
    if len(calls[name]) == 1
    and is_refittable(calls[name][0].layer, len(shapes[calls[name][0].inputs[0]]), max_rows)
  }
  joined = is_trunk(graph, group)
  if joined and trunk == 'keep':
    return [], f'residual additions join its channels and --{prefix}trunk is keep'
  if joined and trunk == 'gather':
    found = []
    for name in readers:
      channels = graph.inputs(name)
      if name in refittable and name in makers:
        size = len(channels.roots)
        found.append(Unit(name, (name, 'input'), size, (name,), {name: np.arange(size)}))
    return found, None
  others = [name for name in dict.fromkeys(readers) if name not in refittable]
  missing = sorted(
    name
    for name in others
    if not (attentions and refittable and isinstance(calls[name][0].layer, L.MultiHeadAttention))
  )
  if missing:
    return [], f'{missing[0]} reads its channels and is no layer that can be refit'
  readers = [name for name in readers if name in refittable]
  elements = {}
  for name in readers:
    channels = graph.inputs(name)
    elements[name] = np.where(channels.group == group.index, channels.element, -1)
  found = Unit(readers[0], group.index, group.size, tuple(readers), elements, tuple(others))
  return [found], None
