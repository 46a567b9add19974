"""What can be pruned of a network's convolutions: sets of channels with the layers that read them."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, Group, Plan
from secateurs.utils.graph.choice.costs import MacsForm
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.graph.groups.members import CONSUMES, PRODUCES

L = keras.layers
TRUNKS = ('keep', 'couple', 'gather')
_ADDITIONS = ('__operators__.add', 'math.add')
_QUADRUPLE = 4
MAX_ROWS = 10_000  # Their normal equations take 800 MB.


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
  """Channels that are chosen together.

  Attributes:
    name: that of the layer that reads them first, and of what makes them where that layer reads
      several units, as behind a concatenation.
    key: what `slice_model` calls them: a group's index, or (layer, 'input') for one layer's choice.
    size: number of channels.
    readers: names of the layers whose kernels sum over them, in order.
    elements: for each reader an int array over its input channels: which of the unit's channels
      each is, or -1.
  """

  name: str
  key: int | tuple[str, str]
  size: int
  readers: tuple[str, ...]
  elements: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Units:
  """What can be pruned, and what cannot and why (one sentence per group)."""

  units: list[Unit]
  left: list[str]


def is_addition(layer: keras.layers.Layer) -> bool:
  """Whether a layer adds its inputs element by element."""
  return type(layer) is L.Add or getattr(layer, 'symbol', None) in _ADDITIONS


def is_refittable(layer: keras.layers.Layer, rank: int, max_rows: int | None = MAX_ROWS) -> bool:
  """Whether a layer can be refit: a plain Conv2D, or a Dense on flat rows, of no enormous kernel."""
  if type(layer) is L.Conv2D:
    fits = layer.groups == 1 and layer.data_format == 'channels_last'
  else:
    fits = type(layer) is L.Dense and rank == 2
  return fits and (max_rows is None or int(np.prod(layer.kernel.shape[:-1])) <= max_rows)


def find_units(
  graph: ChannelGraph,
  trunk: str,
  skip: Sequence[str] = (),
  *,
  prefix: str = 'cp_',
  max_rows: int | None = MAX_ROWS,
) -> Units:
  """Finds the channels that convolutions make and that layers read that can be refit.

  Args:
    graph: the network's channel graph.
    trunk: what is done with channels that residual additions join: `keep` leaves them whole,
      `couple` drops them for all layers of the trunk, `gather` lets every convolution that reads
      them choose its own.
    skip: patterns with * and ?; units of which a reading or making layer matches are left whole.
    prefix: of the flags that messages name.
    max_rows: most rows of a reading layer's kernel; None for any number.

  Raises:
    UserError: a pattern matches no layer.
  """
  names = list(graph.traced.flat.layers())
  for pattern in skip:
    if not fnmatch.filter(names, pattern):
      raise UserError(
        f'--{prefix}skip names {pattern!r}, but no layer of {graph.model.name} is called so: give '
        'names or patterns such as stage1_*, separated by commas.'
      )
  units: list[Unit] = []
  left: list[str] = []
  for group in graph.groups:
    found, reason = _units_of(graph, group, trunk, prefix, max_rows)
    for unit in found:
      touched = {*unit.readers}
      if isinstance(unit.key, int):
        touched |= {*group.layers(PRODUCES)}
      if any(fnmatch.filter(touched, pattern) for pattern in skip):
        left.append(f'{unit.name}: named by --{prefix}skip')
      else:
        units.append(unit)
    if reason:
      left.append(f'{group.name}: {reason}')
  order = {name: number for number, name in enumerate(names)}
  units.sort(key=lambda unit: order[unit.readers[0]])
  return Units(_told_apart(graph, units), left)


def _told_apart(graph: ChannelGraph, units: list[Unit]) -> list[Unit]:
  """The units, those of one name with what makes their channels added to it."""
  times = collections.Counter(unit.name for unit in units)
  return [
    dataclasses.replace(unit, name=f'{unit.name}:{graph.groups[unit.key].name}')
    if times[unit.name] > 1 and isinstance(unit.key, int)
    else unit
    for unit in units
  ]


def _units_of(
  graph: ChannelGraph, group: Group, trunk: str, prefix: str, max_rows: int | None
) -> tuple[list[Unit], str | None]:
  """The units of a group, or why there are none."""
  calls = graph.traced.flat.calls_by_layer()
  shapes = graph.traced.flat.shapes
  readers = [m.layer for m in group.members if m.role == CONSUMES]
  if not group.prunable or not any('Conv' in m.type for m in group.members if m.role == PRODUCES):
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
  joined = _is_trunk(graph, group)
  if joined and trunk == 'keep':
    return [], f'residual additions join its channels and --{prefix}trunk is keep'
  if joined and trunk == 'gather':
    found = []
    for name in readers:
      channels = graph.inputs(name)
      if name in refittable and type(calls[name][0].layer) is L.Conv2D:
        size = len(channels.roots)
        found.append(Unit(name, (name, 'input'), size, (name,), {name: np.arange(size)}))
    return found, None
  missing = sorted(set(readers) - refittable)
  if missing:
    return [], f'{missing[0]} reads its channels and is no layer that can be refit'
  elements = {}
  for name in readers:
    channels = graph.inputs(name)
    elements[name] = np.where(channels.group == group.index, channels.element, -1)
  return [Unit(readers[0], group.index, group.size, tuple(readers), elements)], None


def _is_trunk(graph: ChannelGraph, group: Group) -> bool:
  roots = set(group.roots.tolist())
  return any(
    is_addition(trace.call.layer)
    and len(trace.call.inputs) > 1
    and not roots.isdisjoint(trace.outs[0].labels.tolist())
    for trace in graph.traced.traces
  )


def nb_kept(size: int, ratio: float, quadruple: bool) -> int:
  """Channels that stay of `size` at a preserve ratio: at least one; multiples of four if asked."""
  kept = max(int(np.floor(ratio * size + 0.5)), 1)
  if quadruple:
    kept = -(-kept // _QUADRUPLE) * _QUADRUPLE
  return min(kept, size)


def macs_form(graph: ChannelGraph, units: Sequence[Unit]) -> MacsForm:
  """MACs of the network as a function of how many channels of each unit have gone."""

  def plan(less: int | None = None) -> Plan:
    masks = [np.arange(unit.size) < unit.size - (i == less) for i, unit in enumerate(units)]
    return plan_of(graph, units, masks)

  return MacsForm(plan(), [plan(i) for i in range(len(units))])


def plan_of(graph: ChannelGraph, units: Sequence[Unit], masks: Sequence[np.ndarray]) -> Plan:
  """The slicing that some masks over the units' channels stand for."""
  alive = np.ones(len(graph.traced.why), bool)
  rows = {}
  for unit, mask in zip(units, masks, strict=True):
    if isinstance(unit.key, int):
      alive[graph.groups[unit.key].roots] = mask
    else:
      rows[unit.key[0]] = mask
  return Plan(graph, alive, rows)


def keep_of(units: Sequence[Unit], kept: Mapping[str, Sequence[int]]) -> dict:
  """What `slice_model` takes, from the kept channels by unit name."""
  return {unit.key: list(kept[unit.name]) for unit in units if unit.name in kept}


def dropped_inputs(units: Sequence[Unit], kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Which input channels of each layer are dropped, from masks over the units' channels."""
  dropped: dict[str, np.ndarray] = {}
  for unit in units:
    if unit.name not in kept:
      continue
    for name, elements in unit.elements.items():
      gone = (elements >= 0) & ~kept[unit.name][elements]
      dropped[name] = dropped[name] | gone if name in dropped else gone
  return dropped


def zero_inputs(model: keras.Model, dropped: Mapping[str, np.ndarray]) -> None:
  """Sets the kernels' rows for dropped input channels, as `dropped_inputs` tells them, to zero."""
  layers = flatten_model(model).layers()
  for name, gone in dropped.items():
    kernel = layers[name].kernel
    kernel.assign(np.where(gone[:, None], 0, kernel.numpy()))


def unit_masks(units: Sequence[Unit], kept: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
  """Bool arrays over the units' channels, from lists of the kept ones."""
  return {
    unit.name: np.isin(np.arange(unit.size), kept[unit.name]) for unit in units if unit.name in kept
  }


def read_ratios(path: str, units: Sequence[Unit], flag: str) -> list[float]:
  """Reads a list of ratios: one for each unit, in order.

  Numbers are separated by blanks, commas or new lines; # starts a comment.

  Args:
    path: of a text file.
    units: what the ratios are for.
    flag: that named the file, for messages.

  Raises:
    UserError: no such file, not a number, out of [0, 1], or another number of them than of units.
  """
  try:
    lines = Path(path).expanduser().read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f'--{flag} {path} cannot be read ({error}): a text file with one ratio for each layer was '
      'expected.'
    ) from error
  words = ' '.join(line.split('#')[0] for line in lines).replace(',', ' ').split()
  ratios = []
  for word in words:
    try:
      ratio = float(word)
    except ValueError:
      ratio = float('nan')
    if not 0 <= ratio <= 1:
      raise UserError(f'--{flag} {path} takes numbers in [0, 1], but {word!r} stands in it.')
    ratios.append(ratio)
  if len(ratios) != len(units):
    names = ', '.join(unit.name for unit in units)
    raise UserError(
      f'--{flag} {path} holds {len(ratios)} ratios, but {len(units)} were expected, one '
      f'for the inputs of each of: {names}.'
    )
  return ratios
