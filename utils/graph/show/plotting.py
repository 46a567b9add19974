"""A picture of the channel groups: width before and after, and what is protected."""

from __future__ import annotations

import os

import numpy as np

from secateurs.utils.files import atomic_path
from secateurs.utils.graph.groups.channel_graph import ChannelGraph


def plot_groups(
  graph: ChannelGraph, path: str | os.PathLike, keep: dict[int, np.ndarray] | None = None
) -> None:
  """Draws one bar for each group and writes the picture.

  Args:
    graph: the channel graph.
    path: a file name that matplotlib knows (.png, .svg, .pdf).
    keep: group index -> kept elements, drawn over the full width.

  Raises:
    UserError: the file cannot be written.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  size = len(graph.groups)
  figure = Figure(figsize=(9, max(2.5, 0.22 * size + 1.2)), layout='constrained')
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  full = np.array([group.size for group in graph.groups])
  kept = full.copy()
  for index, elements in (keep or {}).items():
    kept[index] = len(elements)
  places = np.arange(size)
  free = np.array([group.prunable for group in graph.groups], bool)
  axes.barh(places[free], full[free], color='#c9d6e3', label='can be cut')
  axes.barh(places[~free], full[~free], color='#d8a48f', label='protected')
  if keep is not None:
    axes.barh(places[free], kept[free], height=0.5, color='#2f6690', label='kept')
  axes.set_yticks(places, [group.name for group in graph.groups], fontsize=7)
  axes.set_ylim(size - 0.4, -0.6)
  axes.set_xlabel('channels')
  axes.set_title(f'Channel groups of {graph.model.name}', parse_math=False)  # It may have a $.
  if size:
    axes.legend(loc='lower right', fontsize=8)
  with atomic_path(path) as partial:
    figure.savefig(partial, dpi=120)
