"""The path of a search as a drawing: each try a point, the limit a line, the chosen one ringed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from secateurs.utils.deploy.pages.plots import PALETTE, TEXT, draw, style_axes

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

TITLE = 'Path of the search'
CAPTION = (
  'Each try: the cost of its file, as a percentage of the original float file, and the drop of the '
  'score on held-out samples. The stroke ends at what the drop does not exceed with 95 % confidence. '
  'Filled: the search continued from there. The square is the original in the same kind of file, the '
  'line the limit, the ring the chosen network before its last training.'
)


def search_path(path: Mapping[str, Any]) -> str:
  """Draws the tries of joint-search, as inline SVG.

  Args:
    path: `search_path` of the report's further figures.
  """
  tries, original = path['tries'], path['original'] or 1.0
  factor = 100 if path.get('percent', True) else 1

  def paint(_: 'Figure', axes: 'Axes') -> None:
    axes.plot([100 * path['start'] / original], [0.0], 's', color=TEXT, markersize=6)
    for one in tries:
      x, y = 100 * one['ratio'], factor * one['drop']
      colour = PALETTE[2] if one['accepted'] else PALETTE[7]
      face = colour if one['accepted'] else 'none'
      axes.plot([x, x], [y, factor * one['drop at most']], '-', color=colour, linewidth=1)
      axes.plot([x], [y], 'o', color=colour, markerfacecolor=face, markersize=7)
      axes.annotate(str(one['try']), (x, y), (6, 4), textcoords='offset points', color=TEXT)
      if one['try'] == path['chosen']:
        axes.plot([x], [y], 'o', color=TEXT, markerfacecolor='none', markersize=14)
    if path.get('max_drop') is not None:
      limit = factor * path['max_drop']
      axes.axhline(limit, color=PALETTE[1], linewidth=1.2)
      place = {'xy': (1, limit), 'xycoords': axes.get_yaxis_transform(), 'ha': 'right'}
      axes.annotate('limit', xytext=(0, 3), textcoords='offset points', color=PALETTE[1], **place)
    if path.get('limit') is not None:
      axes.axvline(100 * path['limit'] / original, color=PALETTE[1], linewidth=1.2)
    style_axes(axes, f'{path["cost"]} of the {path["file"]} file, % of the original')
    unit = ', points' if factor > 1 else ''
    axes.set_ylabel(f'drop of the score{unit}', color=TEXT)
    axes.margins(x=0.1, y=0.12)

  return draw(TITLE, (8, 3.6), paint)
