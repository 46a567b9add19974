"""Training curves as inline SVG, which takes its text colours from the page around it."""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secateurs.utils.deploy.metrics import phase_offsets

PALETTE = (
  '#3b7dd8',
  '#e0822b',
  '#2f9e6e',
  '#c2528b',
  '#8a6fd1',
  '#b58900',
  '#1a9bb0',
  '#d1495b',
)
MAX_POINTS = 400
"""Points that one curve is thinned to; a panel is about that many pixels wide."""

_TEXT, _GRID = '#123456', '#abcdef'  # stand-ins, replaced by the page's own colours


@dataclass(frozen=True)
class Panel:
  """One quantity over the steps: key of the training lines, key of the evaluation lines."""

  title: str
  train_key: str
  eval_key: str | None = None
  percent: bool = False


PANELS = (
  Panel('Loss', 'loss', 'eval_loss'),
  Panel('Accuracy, %', 'accuracy', 'eval_accuracy', percent=True),
  Panel('Learning rate', 'lrn_rate'),
  Panel('Zeros in prunable kernels, %', 'sparsity', percent=True),
)


def phase_kinds(phases: Sequence[str]) -> dict[str, str]:
  """Returns the name under which each phase is drawn.

  Up to as many phases as there are colours keep their names. More are drawn by kind: the part
  behind the last '/' of 'layer-07/select', else the name without its numbers.
  """
  if len(phases) <= len(PALETTE):
    return {phase: phase for phase in phases}
  return {phase: re.sub(r'[-_ ]?\d+', '', phase.rsplit('/', 1)[-1]) or phase for phase in phases}


def phase_colours(records: Sequence[dict]) -> dict[str, str]:
  """Returns the colour of each kind of phase, in order of appearance."""
  kinds = phase_kinds(list(dict.fromkeys(record['phase'] for record in records)))
  names = list(dict.fromkeys(kinds.values()))
  return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def thin(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
  """Averages neighbours so that at most MAX_POINTS points are left."""
  size = math.ceil(len(xs) / MAX_POINTS) or 1
  groups = [slice(start, start + size) for start in range(0, len(xs), size)]
  mean = [[sum(values[g]) / len(values[g]) for g in groups] for values in (xs, ys)]
  return mean[0], mean[1]


def _series(
  records: Sequence[dict], key: str, offsets: dict[str, float], factor: float
) -> dict[str, tuple[list[float], list[float]]]:
  """Returns phase -> (steps, values), finite values only, steps ascending."""
  points: dict[str, dict[float, float]] = {}
  for record in records:
    value = record.get(key)
    if isinstance(value, (int, float)) and math.isfinite(value):
      phase = record['phase']
      points.setdefault(phase, {})[record['step'] + offsets[phase]] = value * factor
  return {
    phase: (sorted(values), [values[step] for step in sorted(values)])
    for phase, values in points.items()
  }


def curves(records: Sequence[dict]) -> list[tuple[str, str]]:
  """Draws the training curves.

  Args:
    records: what `read_metrics` gives.

  Returns:
    (title, SVG) for each quantity that the records have; phases in `phase_colours`, training as a
    line, evaluations as dots.
  """
  offsets = phase_offsets(records)
  colours, kinds = phase_colours(records), phase_kinds(list(offsets))
  drawn = []
  for panel in PANELS:
    factor = 100 if panel.percent else 1
    train = _series(records, panel.train_key, offsets, factor)
    evals = _series(records, panel.eval_key, offsets, factor) if panel.eval_key else {}
    if any(len(xs) > 1 for xs, _ in train.values()) or evals:
      svg = _draw(panel, train, evals, {phase: colours[kind] for phase, kind in kinds.items()})
      drawn.append((panel.title, svg))
  return drawn


def _draw(panel: Panel, train: dict, evals: dict, colours: dict[str, str]) -> str:
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure

  style = {'svg.fonttype': 'none', 'svg.hashsalt': panel.title, 'font.size': 10}
  with matplotlib.rc_context(style):
    figure = Figure(figsize=(5.2, 2.7), layout='constrained')
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for phase, (xs, ys) in train.items():
      axes.plot(*thin(xs, ys), color=colours[phase], linewidth=1.4, solid_joinstyle='round')
    for phase, (xs, ys) in evals.items():
      axes.plot(xs, ys, 'o', color=colours[phase], markersize=5, markeredgewidth=0)
    _style_axes(axes, _positive_values(train) if panel.train_key == 'lrn_rate' else ())
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', transparent=True)
  return _inline(buffer.getvalue(), f'{panel.title} over the steps')


def family(title: str, label: str, series: dict[str, Sequence[Sequence[float]]]) -> str:
  """Draws curves of one quantity against a share, one curve for each name, as inline SVG.

  Args:
    title: of the drawing, for those who cannot see it.
    label: of the horizontal axis, in percent.
    series: (share, value) pairs by name.
  """
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure

  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': title, 'font.size': 10}):
    figure = Figure(figsize=(8, 3.6), layout='constrained')
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for index, (name, points) in enumerate(series.items()):
      xs, ys = [100 * x for x, _ in points], [y for _, y in points]
      style = ('-', '--', ':')[index // len(PALETTE) % 3]
      axes.plot(xs, ys, style, color=PALETTE[index % len(PALETTE)], linewidth=1.4, label=name)
    _style_axes(axes, ())
    axes.set_xlabel(label, color=_TEXT)
    figure.legend(loc='outside right center', frameon=False, fontsize=8, labelcolor=_TEXT)
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', transparent=True)
  return _inline(buffer.getvalue(), title)


def colours_of(names: Sequence[str]) -> dict[str, str]:
  """A colour for each name, in order; they repeat behind the last."""
  return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(dict.fromkeys(names))}


def scatter(
  title: str,
  points: Sequence[tuple[str, float, float]],
  front: Sequence[tuple[float, float]],
  show: Callable[[float | None], str],
) -> str:
  """Draws named points and the line through those that nothing beats, as inline SVG.

  Args:
    title: of the drawing, for those who cannot see it.
    points: (name, x, y); colours go by `colours_of` the names.
    front: (x, y) by rising x.
    show: formats x.
  """
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure
  from matplotlib.ticker import FuncFormatter

  colours = colours_of([name for name, _, _ in points])
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': title, 'font.size': 10}):
    figure = Figure(figsize=(5.2, 3.2), layout='constrained')
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.step(*zip(*front), where='post', color=_GRID, linewidth=1.4, zorder=1)
    for name, x, y in points:
      axes.plot(x, y, 'o', color=colours[name], markersize=7, markeredgewidth=0, zorder=2)
    _style_axes(axes, ())
    axes.margins(x=0.08, y=0.1)
    axes.set_xlim(left=0)
    axes.xaxis.get_major_locator().set_params(integer=False, nbins=4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
    axes.set_xlabel('')
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', transparent=True)
  return _inline(buffer.getvalue(), title)


def _positive_values(train: dict) -> list[float]:
  return [y for _, ys in train.values() for y in ys if y > 0]


def _style_axes(axes, log_values: Sequence[float]) -> None:  # noqa: ANN001
  from matplotlib.ticker import FuncFormatter, MaxNLocator

  if log_values and max(log_values) / min(log_values) > 30:
    axes.set_yscale('log')
    axes.set_ylim(bottom=max(min(log_values), max(log_values) / 1e4) / 1.3)
  else:
    axes.yaxis.set_major_locator(MaxNLocator(5))
  axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
  axes.xaxis.set_major_formatter(FuncFormatter(_short_count))
  axes.grid(axis='y', color=_GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(which='both', length=0, colors=_TEXT)
  axes.set_xlabel('step', color=_TEXT)
  for side in ('top', 'right', 'left'):
    axes.spines[side].set_visible(False)
  axes.spines['bottom'].set_color(_GRID)


def _short_count(value: float, _: int | None = None) -> str:
  return f'{value / 1e3:g}k' if abs(value) >= 1e4 else f'{value:g}'


def _inline(svg: str, title: str) -> str:
  """Cuts an SVG file down to what an HTML page needs, with the page's colours and fonts."""
  svg = svg[svg.index('<svg') :]
  svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
  svg = re.sub(r' xmlns(:\w+)?="[^"]*"', '', svg)
  svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', svg, count=1)
  svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1', svg, count=1)
  svg = re.sub(r'font: ([\d.]+px) [^;"]+', r'font: \1 system-ui, sans-serif', svg)
  svg = svg.replace(_TEXT, 'var(--muted)').replace(_GRID, 'var(--line)')
  # Names inside one drawing must not clash with those of its neighbours on the page.
  return svg.replace('<svg', f'<svg role="img" aria-label="{title}"', 1)
