"""One layer at a time, what ways to choose its inputs cost, with and without a refit: curves.

He et al. 2017 (arXiv:1707.06168), the figure of single layers: the error of a layer's output, and the
score of the network, while 10 to 90 % of the layer's inputs go and all other layers stay whole.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import tf_keras as keras

from secateurs.learners.channels.allocation.filter_scan import TENTHS
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import statistics
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.run.console import say
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.divergence import Curve, Part
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.tasks.task import Task

SELECTIONS = (
  'lasso',
  'thinet',
  'l1',
  'magnitude',
  'random',
)  # The paper's max response: magnitude.


def selection_curves(
  original: keras.Model,
  working: keras.Model,
  units: Sequence[Unit],
  batches: Sequence,
  method: Callable[[str], Method],
  samples: tuple,
  task: Task,
) -> dict[str, dict[str, dict[str, Curve]]]:
  """Measures all of SELECTIONS.

  Args:
    original: the network.
    working: another one with its weights, which is changed and made whole again.
    units: what is chosen from, each alone.
    batches: inputs that layers are refit over.
    method: how channels are chosen and weights refit, by the name of a selection.
    samples: (inputs, targets) that scores are of.
    task: judges.

  Returns:
    By title ('lasso, refit', 'lasso', ...) and unit name two curves: `error`, of the output as a
    fraction of its variance, and `drop` of the score.
  """
  readers = statistics(original, working, units, batches, method(SELECTIONS[0]))
  flat = flatten_model(working)
  layers, first = flat.layers(), first_calls(flat)
  found: dict[str, dict[str, dict[str, Curve]]] = {}
  for selection in SELECTIONS:
    for refit in (True, False):
      title = f'{selection}, refit' if refit else selection
      chosen = dataclasses.replace(method(selection), refit=refit, scalar=False)
      refits = LayerRefits(original, units, readers, chosen)
      refits.remember()  # Score and error are of the same weights.
      parts = [
        Part(
          unit.name,
          min(first[name] for name in unit.readers),
          [
            (1 - kept / unit.size, functools.partial(refits.apply, layers, {unit.name: kept}))
            for kept in _numbers_kept(unit.size)
          ],
          functools.partial(refits.apply, layers, {}),
        )
        for unit in units
      ]
      drops = divergence.scan(working, parts, samples[0], task, targets=samples[1])
      found[title] = {
        unit.name: {
          'error': [
            (1 - kept / unit.size, refits.error(unit, kept) if kept < unit.size else 0.0)
            for kept in (unit.size, *_numbers_kept(unit.size))
          ],
          'drop': drops[unit.name],
        }
        for unit in units
      }
      say(f'curves  {title}: {_describe(found[title])}')
  return found


def _numbers_kept(size: int) -> list[int]:
  """Channels that stay at 10 to 90 %, falling."""
  widths = {max(size - round(share * size), 1) for share in TENTHS}
  return sorted(widths - {size}, reverse=True)


def _describe(curves: Mapping[str, Mapping[str, Curve]]) -> str:
  """The means over the layers at about half of the channels."""
  means = {}
  for kind in ('error', 'drop'):
    values = [min(one[kind], key=lambda point: abs(point[0] - 0.5))[1] for one in curves.values()]
    means[kind] = sum(values) / len(values)
  return (
    f'mean over layers at half of the channels: output error {100 * means["error"]:.1f} %, drop of the '
    f'score {means["drop"]:.4f}'
  )
