"""Published methods: each is a learner with settings, and a row of this table.

`--learner NAME` takes a method's name as well as a learner's; flags that are given beside it win over
the row. `python -m secateurs.learners` prints the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from secateurs.learners import get_learner, learners
from secateurs.utils.errors import UserError
from secateurs.utils.registry import Registry, unknown


@dataclasses.dataclass(frozen=True)
class Method:
  """A published method as settings of a learner.

  Attributes:
    name: what `--learner` takes.
    learner: the learner's name.
    settings: values of flags, by name without dashes.
    paper: authors, year and number.
    year: of publication.
    criterion: what a weight or channel is worth.
    allocation: how many stay in each layer.
    schedule: when they go.
    pressure: what makes them worthless before they go.
    repair: how the others make up for it.
    deviations: what differs from the paper, one sentence each.
  """

  name: str
  learner: str
  settings: Mapping[str, Any]
  paper: str
  year: int
  criterion: str
  allocation: str
  schedule: str
  pressure: str
  repair: str
  deviations: tuple[str, ...] = ()


METHODS: Registry[Method] = Registry('method')


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
      'Filters go once and for good; the paper zeroes them after each epoch and lets them grow back.',
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

for _method in (
  Method(
    'agp',
    'weight-sparse',
    {'ws_schedule': 'agp', 'ws_prune_ratio_prtl': 'uniform', 'ws_prune_ratio_exp': 3.0},
    'Zhu & Gupta, arXiv:1710.01878',
    2017,
    'magnitude',
    'uniform',
    'gradual',
    'none',
    'fine-tuning',
    (
      'Sparsity rises between a tenth and half of the training; the paper gives steps.',
      'A masked weight is compared by the value that it last had.',
    ),
  ),
  Method(
    'han2015',
    'weight-sparse',
    {'ws_schedule': 'iterative', 'ws_prune_ratio_prtl': 'sensitivity', 'ws_scan': 'sigma'},
    'Han et al., arXiv:1506.02626',
    2015,
    'magnitude',
    'sensitivity',
    'iterative',
    'none',
    'fine-tuning',
    (
      'Thresholds follow from a scan at an equal rise of the loss; the paper chooses them by hand.',
      'Dropout ratios are not changed between rounds.',
    ),
  ),
  Method(
    'cp',
    'chn-pruned',
    {
      'cp_select': 'lasso',
      'cp_scheme': 'two-step',
      'cp_prune_option': 'uniform',
      'cp_refit_all': False,
      'cp_trunk': 'gather',
    },
    'He et al., arXiv:1707.06168',
    2017,
    'lasso',
    'uniform',
    'layer-by-layer',
    'none',
    'least-squares',
    (
      'LASSO and least squares are solved from sums over the samples, the path of lambda at once.',
      'One ratio for all layers; the paper sets ratios by hand for VGG.',
    ),
  ),
  Method(
    'thinet',
    'chn-pruned',
    {
      'cp_select': 'thinet',
      'cp_repair': 'scalar',
      'cp_prune_option': 'uniform',
      'cp_refit_all': False,
      'cp_finetune': True,
      'cp_list_group': 1,
    },
    'Luo et al., arXiv:1707.06342',
    2017,
    'thinet',
    'uniform',
    'layer-by-layer',
    'none',
    'scalar',
    (
      'Sums over all outputs of the sampled positions decide, where the paper samples outputs.',
      'One ratio for all layers; the paper leaves the last stage of VGG-16 whole.',
      'The ResNets of the paper lose the outputs of the first two layers of each block, as here.',
    ),
  ),
  *FILTER_METHODS,
  Method(
    'dcp',
    'dis-chn-pruned',
    {
      'dcp_select': 'gradient',
      'dcp_greedy': 'remove',
      'dcp_chns_per_step': 1,
      'dcp_prune_option': 'uniform',
      'dcp_refit': False,
    },
    'Zhuang et al., NeurIPS 2018',
    2018,
    'gradient',
    'uniform',
    'block-by-block',
    'discrimination',
    'layer-training',
    (
      'A channel is scored by the gradient where it is off; the paper takes it where all are off.',
      'Channels are removed from all; the paper adds them to none (dcp_greedy add).',
      'Block-wise training minimises the sum of both losses in one step.',
    ),
  ),
  Method(
    'dcp-adapt',
    'dis-chn-pruned',
    {
      'dcp_select': 'gradient',
      'dcp_greedy': 'remove',
      'dcp_chns_per_step': 1,
      'dcp_prune_option': 'auto',
      'dcp_refit': False,
    },
    'Zhuang et al., NeurIPS 2018',
    2018,
    'gradient',
    'auto',
    'block-by-block',
    'discrimination',
    'layer-training',
    (
      'Widths follow from measured divergence and a budget of MACs; the paper stops a layer where the '
      'loss falls by less than epsilon.',
      'Otherwise as dcp.',
    ),
  ),
):
  METHODS.add(_method.name, _method)


def resolve(name: str) -> tuple[type, Method | None]:
  """The learner class of a learner's or a method's name, and the method if it is one.

  Raises:
    UserError: nothing has that name; the nearest one is suggested.
  """
  if name in METHODS:
    return get_learner(METHODS[name].learner), METHODS[name]
  try:
    return get_learner(name), None
  except UserError as error:
    raise UserError(unknown('learner or method', name, {**learners(), **METHODS})) from error


def config_of(name: str, **settings: Any) -> Any:
  """The learner's config with a method's settings, for Python.

  Args:
    name: of a method.
    settings: fields of the config that win over the row, without the learner's prefix.

  Raises:
    UserError: no method has that name, or a value is out of range.
  """
  method = METHODS.find(name)
  config = get_learner(method.learner).Config
  row = {flag.removeprefix(config.prefix): value for flag, value in method.settings.items()}
  return config(**{**row, **settings})


def table() -> str:
  """All methods as text: name, learner, paper, the five answers, settings and deviations."""
  blocks = []
  for method in METHODS.values():
    answers = ', '.join(
      f'{question} {getattr(method, question)}'
      for question in ('criterion', 'allocation', 'schedule', 'pressure', 'repair')
    )
    settings = ' '.join(f'--{flag}={value}' for flag, value in method.settings.items())
    lines = [f'{method.name}  ({method.year}, {method.paper})', f'  {answers}']
    lines.append(f'  --learner {method.learner} {settings}')
    lines += [f'  differs: {deviation}' for deviation in method.deviations]
    blocks.append('\n'.join(lines))
  return '\n\n'.join(blocks)
