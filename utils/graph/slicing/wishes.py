"""What a caller wants kept, by group, layer or input, as one bool per element of the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import Group
from secateurs.utils.graph.slicing.planning import KeepKey


def as_mask(value: Any, size: int, what: str) -> np.ndarray:
  """Turns indices or a bool array into a bool array [size].

  Raises:
    UserError: if the length is wrong, or an index is out of range or given twice.
  """
  array = np.asarray(value)
  if array.dtype == bool:
    if array.shape != (size,):
      raise UserError(
        f'The mask of {what} has shape {array.shape}, expected ({size},): one entry per channel.'
      )
    return array.copy()
  if array.size == 0:
    return np.zeros(size, bool)
  if array.ndim != 1 or array.dtype.kind not in 'iu':
    raise UserError(
      f'What to keep of {what} must be a list of integers or a bool array of length {size},'
      f' got {array.dtype} of shape {array.shape}.'
    )
  if array.min() < 0 or array.max() >= size or len(np.unique(array)) != len(array):
    raise UserError(
      f'The indices to keep of {what} must be distinct and lie in 0..{size - 1},'
      f' got {array.min()}..{array.max()} with {len(array) - len(np.unique(array))} repeated.'
    )
  mask = np.zeros(size, bool)
  mask[array] = True
  return mask


def check_widths(min_channels: int, round_to: int) -> None:
  """Checks the least width of a layer, and what widths are multiples of.

  Raises:
    UserError: one is out of range.
  """
  if round_to < 1 or min_channels < 0:
    raise UserError(
      f'round_to must be at least 1 and min_channels at least 0, got {round_to} and {min_channels}.'
    )


class Wishes:
  """Collects what the keys of `keep` say about each element and about each consumer's rows."""

  def __init__(self, graph: ChannelGraph):
    self.graph = graph
    size = len(graph.traced.why)
    self.rows: dict[str, np.ndarray] = {}
    self._drops = np.full(size, -1)
    self._keeps = np.full(size, -1)
    self._titles: list[str] = []

  def add(self, key: KeepKey, value: Any) -> None:
    """Takes one entry of `keep`.

    Raises:
      UserError: there is no such group, layer or part, or the value does not fit its channels.
    """
    graph = self.graph
    if isinstance(key, (Group, int, np.integer)):
      group = graph.group(key)
      what = f'group {group.index} ({group.name})'
      self._elements(what, group.roots, as_mask(value, group.size, what))
      return
    name, side = key if isinstance(key, tuple) else (key, 'output')
    what = f'{side} of layer {name!r}'
    if side in ('input', 'output'):
      channels = graph.inputs(name) if side == 'input' else graph.outputs(name)
    else:
      channels = graph.inside(name, side)
    if not len(channels.roots):
      raise UserError(f'The {what} has no channels of known number, so none can be chosen.')
    mask = as_mask(value, len(channels.roots), what)
    trace = graph.trace(name)
    own = trace.consumed is not None and trace.rule.rows_are_own(trace.call.layer)
    if side == 'input' and own:
      self.rows[name] = mask
    else:
      self._elements(what, channels.roots, mask)

  def _elements(self, what: str, roots: np.ndarray, mask: np.ndarray) -> None:
    number = len(self._titles)
    self._titles.append(what)
    dropped = roots[~mask]
    reason = self.graph.protection(dropped)
    if reason is not None:
      place = int(np.flatnonzero(~mask)[self.graph.traced.why[dropped] >= 0][0])
      raise UserError(
        f'Channel {place} of the {what} is to go, but it is protected ({reason}): keep it.'
      )
    self._keeps[roots[mask]] = number
    self._drops[dropped] = number
    clash = np.flatnonzero((self._keeps >= 0) & (self._drops >= 0))
    if len(clash):
      keeper, dropper = self._titles[self._keeps[clash[0]]], self._titles[self._drops[clash[0]]]
      raise UserError(
        f'The {dropper} drops a channel that the {keeper} keeps, but both go together:'
        ' give the same choice for coupled channels, or choose by group.'
      )

  def alive(self) -> np.ndarray:
    """Elements that stay: not dropped by a key, nor by all of their consumers."""
    alive = self._drops < 0
    if not self.rows:
      return alive
    needed = np.zeros(len(alive), bool)
    offered = np.zeros(len(alive), bool)
    for name, trace in self.graph.first_traces.items():
      if trace.consumed is None:
        continue
      labels = trace.ins[0].labels
      mask = self.rows.get(name)
      needed[labels if mask is None else labels[mask]] = True
      if mask is not None:
        offered[labels[~mask]] = True
    unwanted = offered & ~needed & (self.graph.traced.why < 0) & (self._keeps < 0)
    return alive & ~unwanted

  def explicit_rows(self) -> dict[str, np.ndarray]:
    """Rows that were dropped by name: what flows through them is meant to be lost."""
    return {name: ~mask for name, mask in self.rows.items()}
