"""The drawing of what each layer costs in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from secateurs.utils.deploy.pages import plots

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_MOST = 24


def int8_plot(block: Mapping | None) -> str | None:
  """Divergences of the layers that cost most, as inline SVG; None where none were measured.

  Args:
    block: `int8_layers` of a report.
  """
  if not block or not block['layers']:
    return None
  layers = block['layers'][:_MOST]
  least = 1e-3 * max([one[key] or 0 for one in layers for key in ('alone', 'rest')] + [1e-9])
  places = range(len(layers))

  def paint(figure: Figure, axes: Axes) -> None:
    values = []
    for shift, key, name in ((-0.2, 'alone', 'it alone'), (0.2, 'rest', 'all but it')):
      heights = [max(one[key] or 0, least) for one in layers]
      values += heights
      colour = plots.PALETTE[0 if key == 'alone' else 1]
      axes.bar([place + shift for place in places], heights, 0.4, color=colour, label=name)
    plots.style_axes(axes, 'layer', values)
    axes.set_xticks(list(places), [one['layer'][-24:] for one in layers], rotation=90, fontsize=7)
    figure.legend(
      loc='outside upper right', ncols=2, frameon=False, fontsize=8, labelcolor=plots.TEXT
    )

  return plots.draw('Divergence of the outputs with layers in 8 bits', (8, 3.8), paint)
