"""Published methods that rank filters, as rows of `learners.methods`: a table, no logic."""

from __future__ import annotations

from typing import Any

from secateurs.learners.run.method import Method


def _filters(
  name: str,
  paper: str,
  year: int,
  criterion: str,
  deviations: tuple[str, ...],
  *,
  allocation: str = 'uniform',
  schedule: str = 'one-shot',
  **settings: Any,
) -> Method:
  """A row of `filter-pruned`, whose cuts are followed by fine-tuning alone."""
  flags = {
    'fp_criterion': criterion,
    'fp_prune_option': allocation,
    'fp_schedule': schedule,
    'fp_repair': 'none',
    **{f'fp_{field}': value for field, value in settings.items()},
  }
  answers = criterion, allocation, schedule, 'none', 'fine-tuning'
  return Method(name, 'filter-pruned', flags, paper, year, *answers, deviations)


_ONE_RATIO = 'One ratio for all layers; the paper sets ratios by hand (fp_prune_option list).'
_HRANK_TRUNK = (
  'Where a residual sum joins layers, a channel goes for all of them; the official code zeroes each '
  "layer's filters by itself."
)
FILTER_METHODS = (
  _filters(
    'l1',
    'Li et al., arXiv:1608.08710',
    2017,
    'l1',
    (_ONE_RATIO, "Only the inside of residual blocks, as in the paper's CIFAR-10 networks."),
  ),
  _filters(
    'l1-sensitivity',
    'Li et al., arXiv:1608.08710',
    2017,
    'l1',
    (
      'Ratios follow from an equal drop of the score of each layer alone; the paper reads them off.',
      'Layers that the paper skips are those that a drop of that size leaves whole.',
    ),
    allocation='sensitivity',
  ),
  _filters(
    'fpgm',
    'He et al., arXiv:1811.00250',
    2019,
    'fpgm',
    (
      'Filters go once and stay away; the paper zeroes them after each epoch and lets them regrow.',
    ),
  ),
  _filters(
    'taylor',
    'Molchanov et al., arXiv:1906.10771',
    2019,
    'taylor',
    (
      'Filters go in five rounds between trainings; the paper removes some every few batches.',
      'Scores are means over the batches of one moment, without momentum.',
      "The loss's gradient is taken in inference mode.",
    ),
    allocation='global',
    schedule='end-to-end',
    nb_rounds=5,
    trunk='couple',
  ),
  _filters(
    'apoz',
    'Hu et al., arXiv:1607.03250',
    2016,
    'apoz',
    (
      'All layers are pruned in three rounds; the paper begins with a few layers of VGG-16.',
      'Numbers of filters follow from a ratio; the paper cuts what lies a standard deviation away.',
    ),
    schedule='end-to-end',
    nb_rounds=3,
  ),
  _filters(
    'entropy-pruner',
    'Luo & Wu, arXiv:1706.05791',
    2017,
    'entropy',
    ('One ratio for all layers, and 100 bins between the least and the largest mean activation.',),
    schedule='layer-by-layer',
  ),
  _filters(
    'lamp',
    'Lee et al., arXiv:2010.07611',
    2021,
    'lamp',
    ('The score is that of filters; the paper prunes single weights.',),
    allocation='global',
    trunk='couple',
  ),
  _filters(
    'hrank',
    'Lin et al., arXiv:2002.10179',
    2020,
    'rank',
    (_ONE_RATIO, _HRANK_TRUNK),
    schedule='layer-by-layer',
    trunk='couple',
    list_layout='hrank',
  ),
  _filters(
    'hrank-plus',
    'Lin et al., HRankPlus (code), after arXiv:2002.10179',
    2020,
    'rank',
    (
      _ONE_RATIO,
      'The statistics of batch normalisation are inherited; the official CIFAR-10 code makes new ones.',
    ),
    trunk='couple',
    list_layout='hrank-plus',
  ),
  _filters(
    'abc-pruner',
    'Lin et al., arXiv:2001.08565',
    2020,
    'random',
    (
      'Fitness is judged on held-out training images; the official code takes the test set.',
      'Fitness follows 50 training steps by default, not 2 epochs (fp_abc_fitness epochs).',
      'Codes are scaled so that each candidate meets the same budget of MACs.',
      'Codes may reach all channels; the official code stops at 9 tenths (fp_abc_max_tenths 9).',
    ),
    allocation='abc',
  ),
  _filters(
    'random',
    'control',
    2017,
    'random',
    ('A control: what does not beat it at equal MACs is no criterion.',),
  ),
)
