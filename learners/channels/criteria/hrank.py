"""Lists of compression rates as HRank and HRankPlus publish them, for residual networks and VGG.

`hrank` (Lin et al. 2020): a rate for each convolution in the order of the official code, in a block
the branch first and then the projection, of which option-A networks have none. `hrank-plus`: the rate
of the stem, one for the output of each stage but the last, which stays whole, and one for the inner
convolutions of each block; without residual blocks a rate for each convolution. A rate is the
fraction of the filters that go.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from secateurs.learners.channels.cuts.shortcuts import Block, made_in, residual_additions
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph

LAYOUTS = ('units', 'hrank', 'hrank-plus')


def hrank_width(size: int, rate: float) -> int:
  """Filters that stay, as the code of HRank counts them: c - int(c * rate)."""
  return size - int(size * rate)


def hrank_plus_width(size: int, rate: float) -> int:
  """Filters that stay, as the code of HRankPlus counts them: int(c * (1 - rate))."""
  return int(size * (1 - rate))


def adapt_channel(
  compress_rate: Sequence[float],
  stage_repeat: Sequence[int],
  out_channels: Sequence[int],
  mid_channels: Sequence[int],
) -> tuple[list[int], list[int]]:
  """Widths of a residual network, as `adapt_channel` of HRankPlus gives them.

  Args:
    compress_rate: stem, stages but the last, blocks.
    stage_repeat: blocks of each stage.
    out_channels: of the stem and of each block.
    mid_channels: of the inner convolutions of each block.

  Returns:
    (overall, mid): channels that the stem and each block put out, and those inside each block.
  """
  nb_stages = len(stage_repeat)
  stages = [*compress_rate[1:nb_stages], 0.0]
  outer = [compress_rate[0]]
  for repeat, rate in zip(stage_repeat, stages, strict=True):
    outer += [rate] * repeat
  overall = [hrank_plus_width(c, rate) for c, rate in zip(out_channels, outer, strict=True)]
  inner = compress_rate[nb_stages:]
  mid = [hrank_plus_width(c, rate) for c, rate in zip(mid_channels, inner, strict=True)]
  return overall, mid


def hrank_counts(
  graph: ChannelGraph, units: Sequence[Unit], rates: Sequence[float], layout: str, source: str
) -> dict[str, int]:
  """Channels that stay of each unit, by name, from a list in one of the two layouts.

  A channel that several layers make goes only if all of them would drop it: of their rates the least
  counts (deviation: the official code zeroes each layer's share of a residual sum by itself).

  Args:
    graph: the network's channel graph.
    units: what may be pruned.
    rates: the list.
    layout: `hrank` or `hrank-plus`.
    source: the flag and the file, for messages.

  Raises:
    UserError: the list has another length, leaves nothing of a layer, or names rates of channels that
      are not pruned.
  """
  blocks = residual_additions(graph)
  if layout == 'hrank-plus' and blocks:
    wanted = _plus(graph, blocks, rates, source)
  else:
    width = hrank_plus_width if layout == 'hrank-plus' else hrank_width
    wanted = _by_layer(graph, blocks, rates, source, width)
  counts = {}
  for unit in units:
    makers = made_in(graph.groups[unit.key]) if isinstance(unit.key, int) else []
    found = [wanted[name] for name in makers if name in wanted]
    counts[unit.name] = max(found, default=unit.size)
    if not counts[unit.name]:
      raise UserError(
        f'{source} leaves nothing of {unit.name}, which has {unit.size} channels: lower its rate.'
      )
  _require_effect(graph, units, wanted, source)
  return counts


def convolutions(graph: ChannelGraph, blocks: Sequence[Block], projections: bool) -> list[str]:
  """Names of the convolutions that make channels, in the order of the official lists."""
  projected = {name for block in blocks for name in block.shortcut}
  after = {block.branch[-1]: block.shortcut for block in blocks}
  names = []
  for name, trace in graph.first_traces.items():
    makes = trace.produced is not None and 'Conv' in type(trace.call.layer).__name__
    if makes and name not in projected:
      names += [name, *(after.get(name, ()) if projections else ())]
  return names


def _by_layer(
  graph: ChannelGraph,
  blocks: Sequence[Block],
  rates: Sequence[float],
  source: str,
  width: Callable[[int, float], int],
) -> dict[str, int]:
  """Widths by layer name, from a rate for each convolution."""
  names = convolutions(graph, blocks, True)
  plain = convolutions(graph, blocks, False)
  if len(rates) == len(plain):
    names = plain
  if len(rates) != len(names):
    raise _wrong_length(rates, [(n, _width_of(graph, n)) for n in names], source)
  return {n: width(_width_of(graph, n), rate) for n, rate in zip(names, rates, strict=True)}


def _plus(
  graph: ChannelGraph, blocks: Sequence[Block], rates: Sequence[float], source: str
) -> dict[str, int]:
  """Widths by layer name, from rates of stem, stages and blocks."""
  stages = [
    list(group)
    for _, group in itertools.groupby(blocks, lambda b: int(graph.outputs(b.branch[-1]).group[0]))
  ]
  stem = convolutions(graph, blocks, False)[0]
  parts = [(stem, _width_of(graph, stem))]
  for number, stage in enumerate(stages[:-1], 1):
    parts.append((f'output of stage {number}', _width_of(graph, stage[0].branch[-1])))
  parts += [(f'inside of {block.addition}', _width_of(graph, block.branch[0])) for block in blocks]
  if len(rates) != len(parts):
    raise _wrong_length(rates, parts, source)
  overall, mid = adapt_channel(
    rates,
    [len(stage) for stage in stages],
    [_width_of(graph, stem), *(_width_of(graph, block.branch[-1]) for block in blocks)],
    [_width_of(graph, block.branch[0]) for block in blocks],
  )
  wanted = {}
  for block, outside, inside in zip(blocks, overall[1:], mid, strict=True):
    wanted |= dict.fromkeys(block.branch[:-1], inside)
    wanted |= dict.fromkeys((block.branch[-1], *block.shortcut), outside)
  if graph.outputs(stem).group[0] != graph.outputs(blocks[0].branch[-1]).group[0]:
    wanted[stem] = overall[0]  # Else it is one with the first stage, whose rate counts.
  return wanted


def _require_effect(
  graph: ChannelGraph, units: Sequence[Unit], wanted: Mapping[str, int], source: str
) -> None:
  """Checks that no layer is to be pruned whose channels are not."""
  covered = {
    name for unit in units if isinstance(unit.key, int) for name in made_in(graph.groups[unit.key])
  }
  for group in graph.groups:
    makers = [name for name in made_in(group) if name in wanted]
    asked = max((wanted[name] for name in makers), default=group.size) < group.size
    if asked and group.prunable and not covered.intersection(makers):
      raise UserError(
        f'{source} prunes {makers[0]}, whose channels residual additions join or --fp_skip names: '
        'add --fp_trunk couple, or set its rate to 0.'
      )


def _width_of(graph: ChannelGraph, name: str) -> int:
  return len(graph.outputs(name).roots)


def _wrong_length(
  rates: Sequence[float], parts: Sequence[tuple[str, int]], source: str
) -> UserError:
  shown = ', '.join(f'{name} ({width})' for name, width in parts)
  return UserError(
    f'{source} holds {len(rates)} rates, but {len(parts)} were expected, one for each of (channels): '
    f'{shown}.'
  )
