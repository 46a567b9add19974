"""What units of channels cost when they are masked alone, without training: sensitivity analysis.

Li et al. 2017 (arXiv:1608.08710), figure 2: the score of the network when a fraction of one layer's
filters has gone, layer by layer.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation.ranked import FilterSite, Ranked, refits_of
from secateurs.learners.channels.allocation.registry import DIVERGENCE, SCORE
from secateurs.learners.channels.allocation.sensitivity import say_curve, unit_parts
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.console import say
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.divergence import Curve, Part
from secateurs.learners.run.training.judging import judging_samples, judging_split
from secateurs.utils import nested
from secateurs.utils.graph import ChannelGraph, masked
from secateurs.utils.graph.flat.cuts import first_calls

_CURVE_SHARES = (1 / 8, 1 / 4, 0.4, 0.55, 0.7, 0.85, 1.0)
TENTHS = tuple(tenth / 10 for tenth in range(1, 10))


def masked_parts(
  graph: ChannelGraph,
  units: Sequence[Unit],
  keys: Mapping[str, np.ndarray],
  shares: Sequence[float] = TENTHS,
) -> list[Part]:
  """The units as parts of a scan of the graph's own network, each masked by its keys.

  Args:
    graph: of the network that is scanned.
    units: what is masked.
    keys: [unit.size] by unit name; the highest stay.
    shares: fractions of the channels that go; at least one stays.
  """
  first = first_calls(graph.traced.flat)
  open_mask = contextlib.ExitStack()

  def prune(unit: Unit, nb_keep: int) -> None:
    open_mask.close()
    plan = plan_of(graph, [unit], [best(keys[unit.name], nb_keep)])
    open_mask.enter_context(masked(plan))

  found = []
  for unit in units:
    widths = {unit.size - round(share * unit.size) for share in shares}
    widths = sorted({max(width, 1) for width in widths} - {unit.size}, reverse=True)
    points = [(1 - n / unit.size, functools.partial(prune, unit, n)) for n in widths]
    if isinstance(unit.key, int):
      group = graph.groups[unit.key]
      start = min(first[member.layer] for member in group.members)
    else:
      start = first[unit.key[0]]
    found.append(Part(unit.name, start, points, open_mask.close))
  return found


def sensitivity(
  graph: ChannelGraph,
  units: Sequence[Unit],
  keys: Mapping[str, np.ndarray],
  helper: Helper,
  nb_samples: int,
  further: Sequence[ChannelGraph] = (),
) -> tuple[dict[str, Curve], int]:
  """How much worse the score is with each unit alone at 10 to 90 %, by unit name; on how many samples.

  Measured on held-out training samples, or on training samples where none are held out.

  Args:
    graph: of the network.
    units: what is masked.
    keys: [unit.size] by unit name; the highest stay.
    helper: gives samples and task.
    nb_samples: how many samples; fewer are taken where their maps are large (`divergence.nb_scanned`).
    further: of networks with the same weights, which measure units at the same time.
  """
  inputs, targets = judging_samples(helper, nb_samples)
  parts, *others = [masked_parts(one, units, keys) for one in (graph, *further)]
  networks = [(one.model, found) for one, found in zip(further, others, strict=True)]
  nb_scanned = divergence.nb_scanned(graph.model, parts, nested.size(inputs))
  if nb_scanned < nested.size(inputs):
    say(f'Judged on {nb_scanned} samples: the maps of {nested.size(inputs)} would take over 1 GiB.')
  curves = divergence.scan(graph.model, parts, inputs, helper.task, _say, targets, networks)
  return curves, nb_scanned


def images_a_unit(measures: str, nb_samples: int, helper: Helper) -> int:
  """Images that a scan runs the network on for each unit; 0 where nothing is scanned.

  Args:
    measures: what the allocation needs, see `registry.Allocation`.
    nb_samples: how many samples a score is of.
    helper: has the samples.
  """
  kinds = {SCORE: (nb_samples, TENTHS), DIVERGENCE: (divergence.NB_IMAGES, _CURVE_SHARES)}
  wanted, points = kinds.get(measures, (0, ()))
  return len(points) * min(wanted, helper.nb_samples(judging_split(helper)))


def table(curves: Mapping[str, Curve]) -> dict[str, dict[str, float | None]]:
  """The drop of the score by unit, at the nearest measured fraction to each tenth."""
  rows = {}
  for name, curve in curves.items():
    points = np.array(curve)
    rows[name] = {
      f'{share:.0%}': float(points[np.abs(points[:, 0] - share).argmin(), 1]) for share in TENTHS
    }
  return rows


def as_text(curves: Mapping[str, Curve]) -> str:
  """The table as lines of text, drops in hundredths of the score."""
  rows = table(curves)
  width = max(map(len, rows), default=0)
  lines = [' ' * width + ''.join(f'{share:>8.0%}' for share in TENTHS)]
  for name, row in rows.items():
    lines.append(f'{name:<{width}}' + ''.join(f'{100 * value:8.2f}' for value in row.values()))
  return '\n'.join(lines)


def _say(number: int, total: int, name: str, curve: Curve) -> None:
  shown = ', '.join(f'{100 * gone:.0f} %: {value:.4f}' for gone, value in curve[1::2])
  say(f'scan  {number}/{total}  {name}: drop of the score with so many channels gone  {shown}')


def scan(ranked: Ranked, site: FilterSite) -> dict[str, Curve]:
  """The divergence of each unit pruned alone, and refit where cuts are; curves by unit name."""
  networks = site.networks()
  samples, _ = judging_samples(site.helper, divergence.NB_IMAGES)
  refits, refit, rest = refits_of(ranked, site, networks[0])

  def parts_of(network: keras.Model) -> list[Part]:
    parts = masked_parts(ranked.graph.again(network), rest, ranked.keys, _CURVE_SHARES)
    return parts if refits is None else parts + unit_parts(network, refit, refits)

  (original, parts), *further = [(network, parts_of(network)) for network in networks]
  task = site.helper.task
  return divergence.scan(original, parts, samples, task, say_curve, further=further)
