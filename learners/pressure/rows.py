"""Published methods that shape a network while it trains, as rows of `learners.methods`."""

from __future__ import annotations

from secateurs.learners.run.method import Method

_RELATIVE = (
  'The strength is relative to the norms at the start, so that it suits trainings of any length; '
  'rp_factor takes the factor of the paper.'
)
_TOGETHER = 'What residual additions join goes together, and its filters are one group.'

PRESSURE_METHODS = (
  Method(
    'slimming',
    'reg-pruned',
    {
      'rp_penalty': 'bn_gamma',
      'rp_update': 'subgradient',
      'rp_prune_option': 'global',
      'rp_repair': 'none',
    },
    'Liu et al., arXiv:1708.06519',
    2017,
    'bn_gamma',
    'global',
    'end-to-end',
    'sparsity',
    'fine-tuning',
    (
      _RELATIVE,
      'Training begins with trained weights; rp_from_scratch begins as the paper does.',
      'Each layer keeps a floor of its channels; the paper may lose a whole layer.',
      'With rp_trunk gather channels are selected before the batch normalisation of their reader, '
      'which is cut; the paper selects after it, with the same numbers.',
    ),
  ),
  Method(
    'ssl',
    'reg-pruned',
    {
      'rp_penalty': 'group_lasso',
      'rp_groups': 'filters,channels',
      'rp_prune_option': 'global',
      'rp_repair': 'none',
    },
    'Wen et al., arXiv:1608.03665',
    2016,
    'group_norm',
    'global',
    'end-to-end',
    'sparsity',
    'fine-tuning',
    (
      _RELATIVE,
      'A proximal step makes exact zeros; the official code sets weights below a threshold to zero.',
      'The smallest norms go until a budget is met; the paper removes zeros alone (rp_prune_option '
      'zeros, which removes residual blocks with rp_groups layers).',
      "A filter's group has the scale and shift of its batch normalisation.",
      _TOGETHER,
    ),
  ),
  Method(
    'group-lasso',
    'reg-pruned',
    {
      'rp_penalty': 'dependency',
      'rp_prune_option': 'global',
      'rp_trunk': 'couple',
      'rp_repair': 'none',
    },
    'Fang et al., arXiv:2301.12900',
    2023,
    'group_norm',
    'global',
    'end-to-end',
    'sparsity',
    'fine-tuning',
    (
      _RELATIVE,
      'A group has one norm, by a proximal step; the official code scales an L2 penalty by it.',
    ),
  ),
  Method(
    'growing-reg',
    'reg-pruned',
    {
      'rp_penalty': 'growing',
      'rp_criterion': 'l1',
      'rp_prune_option': 'uniform',
      'rp_repair': 'none',
    },
    'Wang et al., arXiv:2012.09243',
    2021,
    'l1',
    'uniform',
    'end-to-end',
    'growing',
    'fine-tuning',
    (
      _RELATIVE,
      'The factor acts by a proximal step after the optimizer; the paper adds it to the weight decay.',
      'It pulls at all weights that go with a channel, those that read it included.',
      'The factor rises in ten steps and is not held at its highest value.',
    ),
  ),
  Method(
    'autopruner',
    'gate-pruned',
    {'gp_groups': 'jointly', 'gp_prune_option': 'uniform', 'gp_repair': 'none'},
    'Luo & Wu, arXiv:1805.08941',
    2018,
    'gate',
    'uniform',
    'end-to-end',
    'gates',
    'fine-tuning',
    (
      'All layers are gated jointly, as in the recipe of the code for MobileNetV2; gp_groups gates one '
      'group after the other.',
      'The gates of the highest running means stay; the paper takes those above 0.5 in a batch.',
      'The first weights have the standard deviation 10 sqrt(2 / n), as in the code; the paper calls '
      'it the variance (gp_init variance).',
      'Gradients are clipped to a norm of 1 while gates train; published: no limit (gp_clip_norm 0).',
    ),
  ),
  Method(
    'chex',
    'prune-regrow',
    {
      'pr_criterion': 'bn_gamma',
      'pr_prune_option': 'global',
      'pr_start': 'scratch',
      'pr_until': 0.72,
      'pr_regrow': 0.3,
    },
    'Hou et al., arXiv:2203.15794',
    2022,
    'leverage',
    'global',
    'gradual',
    'regrowing',
    'fine-tuning',
    (
      'A fraction of each layer regrows; the paper shares one fraction among all layers.',
      'The first sub-model has all channels, as in the official code; the paper draws its widths '
      '(pr_first random).',
      'The pruned channels are sliced away at the end; the official code leaves zeros (nopr_slice).',
      'Which layers are pruned follows from the channel graph, not from a list for ResNet-50.',
    ),
  ),
)
