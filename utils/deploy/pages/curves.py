"""Training curves: whatever numbers the lines of a `metrics.jsonl` hold, over the steps."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from secateurs.utils.deploy.pages.plots import PALETTE, draw, style_axes
from secateurs.utils.deploy.reports.metrics import phase_offsets

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

MAX_POINTS = 400
"""Points that one curve is thinned to; a panel is about that many pixels wide."""

MIN_POINTS = 4
"""Fewer points of training are no curve."""

_MOST = 1e300  # That can be drawn.
_BOOKKEEPING = ('phase', 'step', 'epoch', 'images_per_sec')
_EVALUATED = 'eval_'
_TITLES = {
  'lrn_rate': 'Learning rate',
  'sparsity': 'Zeros in prunable kernels',
  'loss_dst': 'Loss of distillation',
  'mae': 'MAE',
  'rmse': 'RMSE',
}
_LOGARITHMIC = ('lrn_rate',)

Series = Mapping[str, tuple[list[float], list[float]]]  # phase -> steps, values


def phase_kinds(phases: Sequence[str]) -> dict[str, str]:
  """Returns the name under which each phase is drawn.

  Up to as many phases as there are colours keep their names. More are drawn by kind: the part
  after the last '/' of 'layer-07/select', else the name without its numbers.
  """
  if len(phases) <= len(PALETTE):
    return {phase: phase for phase in phases}
  return {phase: re.sub(r'[-_ ]?\d+', '', phase.rsplit('/', 1)[-1]) or phase for phase in phases}


def phase_colours(records: Sequence[Mapping]) -> dict[str, str]:
  """Returns the colour of each kind of phase, in order of appearance."""
  kinds = phase_kinds(list(dict.fromkeys(record['phase'] for record in records)))
  names = list(dict.fromkeys(kinds.values()))
  return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def has_evaluations(records: Sequence[Mapping]) -> bool:
  """Whether some lines are of evaluations, whose values are drawn as dots."""
  return any(key.startswith(_EVALUATED) for record in records for key in record)


def quantities(records: Sequence[Mapping]) -> list[str]:
  """Returns the names of what the records measured, in order of appearance, without 'eval_'."""
  keys = (key.removeprefix(_EVALUATED) for record in records for key in record)
  return [key for key in dict.fromkeys(keys) if key not in _BOOKKEEPING]


def curves(records: Sequence[Mapping], percent: Collection[str] = ()) -> list[tuple[str, str]]:
  """Draws the training curves.

  Args:
    records: what `read_metrics` gives. `eval_<name>` is drawn into the panel of `<name>`.
    percent: names of the quantities that are fractions of 1, drawn in percent; sparsity always is.

  Returns:
    (title, SVG) for each quantity that the records have; phases in `phase_colours`, training as a
    line, evaluations as dots.
  """
  offsets = phase_offsets(records)
  by_kind, kinds = phase_colours(records), phase_kinds(list(offsets))
  colours = {phase: by_kind[kind] for phase, kind in kinds.items()}
  drawn = []
  for key in quantities(records):
    in_percent = key in percent or key == 'sparsity'
    train = _series(records, key, offsets, in_percent)
    evals = _series(records, _EVALUATED + key, offsets, in_percent)
    if any(len(xs) >= MIN_POINTS for xs, _ in train.values()) or any(
      len(xs) > 1 for xs, _ in evals.values()
    ):
      name = key.replace('_', ' ')
      title = _TITLES.get(key, name[:1].upper() + name[1:]) + (', %' if in_percent else '')
      drawn.append((title, _draw(title, train, evals, colours, key in _LOGARITHMIC)))
  return drawn


def thin(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
  """Averages neighbours so that at most MAX_POINTS points are left."""
  size = math.ceil(len(xs) / MAX_POINTS) or 1
  groups = [slice(start, start + size) for start in range(0, len(xs), size)]
  mean = [[sum(values[g]) / len(values[g]) for g in groups] for values in (xs, ys)]
  return mean[0], mean[1]


def _series(
  records: Sequence[Mapping], key: str, offsets: Mapping[str, float], in_percent: bool
) -> Series:
  """Returns phase -> (steps, values), finite values only, steps ascending."""
  factor = 100 if in_percent else 1
  points: dict[str, dict[float, float]] = {}
  for record in records:
    value = record.get(key)
    if isinstance(value, (int, float)) and -_MOST < value < _MOST:  # Whole ones have no limit.
      phase = record['phase']
      points.setdefault(phase, {})[record['step'] + offsets[phase]] = value * factor
  return {
    phase: (sorted(values), [values[step] for step in sorted(values)])
    for phase, values in points.items()
  }


def _draw(
  title: str, train: Series, evals: Series, colours: Mapping[str, str], logarithmic: bool
) -> str:
  def paint(_: 'Figure', axes: 'Axes') -> None:
    for phase, (xs, ys) in train.items():
      marker = '.' if len(xs) < MIN_POINTS else None
      axes.plot(
        *thin(xs, ys), color=colours[phase], marker=marker, linewidth=1.4, solid_joinstyle='round'
      )
    for phase, (xs, ys) in evals.items():
      axes.plot(xs, ys, 'o', color=colours[phase], markersize=5, markeredgewidth=0)
    positive = [y for _, ys in train.values() for y in ys if y > 0]
    style_axes(axes, 'step', positive if logarithmic else ())

  return draw(f'{title} over the steps', (5.2, 2.7), paint)
