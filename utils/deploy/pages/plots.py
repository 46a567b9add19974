"""Drawings as inline SVG, which take their text colours from the page around them."""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

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
TEXT, GRID = '#123456', '#abcdef'
"""Stand-ins that `draw` replaces by the page's own colours."""


def draw(title: str, size: tuple[float, float], paint: Callable[['Figure', 'Axes'], None]) -> str:
  """Returns what `paint` puts into one set of axes, as inline SVG.

  Args:
    title: of the drawing, for those who cannot see it.
    size: width and height in inches; the page scales the drawing to its column.
    paint: is given the figure and its axes.
  """
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure

  style = {
    'svg.fonttype': 'none',
    'svg.hashsalt': title,
    'font.size': 10,
    'text.parse_math': False,
  }
  with matplotlib.rc_context(style):
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasSVG(figure)
    paint(figure, figure.add_subplot())
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', transparent=True)
  return _inline(buffer.getvalue(), title)


def family(title: str, label: str, series: Mapping[str, Sequence[Sequence[float]]]) -> str:
  """Draws curves of one quantity against a fraction, one curve for each name, as inline SVG.

  The vertical axis is logarithmic if the values span more than a factor of 30.

  Args:
    title: of the drawing, for those who cannot see it.
    label: of the horizontal axis, in percent.
    series: (fraction, value) pairs by name.
  """

  def paint(figure: 'Figure', axes: 'Axes') -> None:
    for index, (name, points) in enumerate(series.items()):
      xs, ys = [100 * x for x, _ in points], [y for _, y in points]
      style = ('-', '--', ':')[index // len(PALETTE) % 3]
      axes.plot(xs, ys, style, color=PALETTE[index % len(PALETTE)], linewidth=1.4, label=name)
    values = [y for points in series.values() for _, y in points if y > 0]
    style_axes(axes, label, values)
    figure.legend(loc='outside right center', frameon=False, fontsize=8, labelcolor=TEXT)

  return draw(title, (8, 3.6), paint)


def colours_of(names: Sequence[str]) -> dict[str, str]:
  """A colour for each name, in order; they repeat after the last."""
  return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(dict.fromkeys(names))}


class Point(NamedTuple):
  """One point of a scatter: its place, its colour, what is written beside it, and its form."""

  x: float
  y: float
  colour: str
  label: str
  ring: bool = False


def scatter(
  title: str,
  points: Sequence[Point],
  front: Sequence[tuple[float, float]],
  show: Callable[[float | None], str],
) -> str:
  """Draws labelled points and the line through those that nothing beats, as inline SVG.

  Args:
    title: of the drawing, for those who cannot see it.
    points: what to draw.
    front: (x, y) by rising x.
    show: formats x.
  """
  from matplotlib.ticker import FuncFormatter

  def paint(_: 'Figure', axes: 'Axes') -> None:
    if front:
      axes.step(*zip(*front, strict=True), where='post', color=TEXT, alpha=0.5, linewidth=1)
    for point in points:
      look = {'markersize': 13, 'markerfacecolor': 'none'} if point.ring else {'markersize': 8}
      axes.plot(point.x, point.y, 'o', color=point.colour, **look)
    for place, label in merged_labels(points):
      axes.annotate(label, place, (7, 5), textcoords='offset points', color=TEXT)
    style_axes(axes)
    axes.margins(x=0.12, y=0.15)
    axes.xaxis.get_major_locator().set_params(integer=False, nbins=4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))

  return draw(title, (5.2, 3.2), paint)


def merged_labels(points: Sequence[Point]) -> list[tuple[tuple[float, float], str]]:
  """Returns places and labels; points too close for a label each share one, such as '2, 3'."""
  groups: list[list[Point]] = []
  spans = [max(values) - min(values) or 1 for values in zip(*(point[:2] for point in points))]
  for point in points:
    for group in groups:
      dx, dy = abs(point.x - group[0].x) / spans[0], abs(point.y - group[0].y) / spans[1]
      if dx < 0.06 and dy < 0.1:
        group.append(point)
        break
    else:
      groups.append([point])
  return [
    ((max(p.x for p in group), max(p.y for p in group)), ', '.join(p.label for p in group))
    for group in groups
  ]


def style_axes(axes: 'Axes', x_label: str = '', log_values: Sequence[float] = ()) -> None:
  """Gives axes the page's look; a logarithmic y axis if `log_values` span more than a factor of 30."""
  from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

  if log_values and max(log_values) / min(log_values) > 30:
    axes.set_yscale('log')
    axes.set_ylim(bottom=max(min(log_values), max(log_values) / 1e4) / 1.3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())
  else:
    axes.yaxis.set_major_locator(MaxNLocator(5))
  axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
  axes.xaxis.set_major_formatter(FuncFormatter(_short_count))
  axes.grid(axis='y', color=GRID, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(which='both', length=0, colors=TEXT)
  axes.set_xlabel(x_label, color=TEXT)
  for side in ('top', 'right', 'left'):
    axes.spines[side].set_visible(False)
  axes.spines['bottom'].set_color(GRID)


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
  svg = svg.replace(TEXT, 'var(--muted)').replace(GRID, 'var(--line)')
  return svg.replace('<svg', f'<svg role="img" aria-label="{html.escape(title)}"', 1)
