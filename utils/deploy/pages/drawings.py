"""Families of curves that learners have measured, as drawings of a report's page."""

from collections.abc import Mapping
from typing import Any

_DRAWN = (
  (
    'sensitivity',
    'Sensitivity',
    'Loss on the judging samples when one kernel alone is pruned, before any training.',
    'zeros in the kernel, %',
  ),
  (
    'divergence',
    'Sensitivity',
    "Divergence of the outputs from the original network's when one layer alone is pruned "
    '(and refit, if asked for), before any training.',
    'removed from the layer, %',
  ),
  (
    'filter_sensitivity',
    'Sensitivity',
    'Drop of the score on the judging samples when channels of one layer alone are removed, before any '
    'training.',
    'removed from the layer, %',
  ),
  (
    'rank_by_channel',
    'Ranks of feature maps',
    'Mean rank of the maps of each channel, the channels of each layer sorted by it.',
    'channels of the layer, %',
  ),
  (
    'rank_spread',
    'Spread of the ranks',
    'Standard deviation over batches of the mean rank of each channel, in the same order: the lower, '
    'the less the ranks depend on the images.',
    'channels of the layer, %',
  ),
  (
    'norms',
    'Norms under pressure',
    'Fraction of the penalised groups whose norm is at most the value on the axis, before and after '
    'each training under the penalty.',
    'of the largest norm at the start, %',
  ),
  (
    'structure',
    'Structure over time',
    'Fraction of its channels that each layer has while channels are pruned and regrow.',
    'of the training, %',
  ),
  (
    'gates',
    'Gates',
    'Mean gate of each channel when its layer was cut, the channels of each layer sorted by it.',
    'channels of the layer, %',
  ),
  (
    'colony',
    'Course of the search',
    'Fitness or reward of the best candidate so far, and a mean of the latest ones.',
    'of the search, %',
  ),
)


def drawings(report: Mapping) -> list[dict[str, str]]:
  """Curves that a learner has measured: what pruning one layer alone costs, the course of a search."""
  from secateurs.utils.deploy.pages import plots, search_plot

  extra = report.get('extra') or {}
  path = extra.get('search_path')
  searched = [] if not path else [search_plot.search_path(path)]
  return [
    *(
      {'title': search_plot.TITLE, 'caption': search_plot.CAPTION, 'plot': plot}
      for plot in searched
    ),
    *(
      {'title': title, 'caption': caption, 'plot': plots.family(caption, label, extra[key])}
      for key, title, caption, label in _DRAWN
      if extra.get(key)
    ),
  ]


def without_drawings(extra: Mapping) -> dict[str, Any]:
  """The further figures that are not drawn."""
  return {key: value for key, value in extra.items() if key not in [key for key, *_ in _DRAWN]}
