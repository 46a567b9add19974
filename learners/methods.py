"""Published methods: each is a learner with settings, and a row of this table.

`--learner NAME` takes a method's name as well as a learner's; flags that are given beside it win over
the row. `python -m secateurs.learners` prints the table.
"""

from __future__ import annotations

from typing import Any

from secateurs.learners import get_learner, learners
from secateurs.learners.channels.channel_rows import CHANNEL_METHODS
from secateurs.learners.channels.filter_rows import FILTER_METHODS
from secateurs.learners.pressure.rows import PRESSURE_METHODS
from secateurs.learners.run.method import Method
from secateurs.utils.errors import UserError
from secateurs.utils.registry import Registry, unknown

METHODS: Registry[Method] = Registry('method')


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
    '1xn',
    'weight-sparse',
    {
      'ws_pattern': '1x16',
      'ws_prune_ratio': 0.5,
      'ws_prune_ratio_prtl': 'uniform',
      'ws_schedule': 'one-shot',
      'ws_rearrange': True,
    },
    'Lin et al., arXiv:2105.14713',
    2021,
    'magnitude',
    'uniform',
    'one-shot',
    'none',
    'fine-tuning',
    (
      'Channels are permuted, through whole channel groups; the code of the paper keeps the old order.',
      'Where several layers make the channels of a group, as along residual additions, their norms are '
      'added; the paper leaves such layers as they are.',
      'Layers whose outputs are no multiple of N stay dense.',
    ),
  ),
  Method(
    'deep-compression',
    'non-uniform-quant',
    {
      'nuql_prune_ratio': 0.7,
      'nuql_weight_bits': 8,
      'nuql_dense_bits': 5,
      'nuql_init_style': 'kmeans',
      'nuql_opt_mode': 'centroids',
      'nuql_use_buckets': False,
    },
    'Han et al., arXiv:1510.00149',
    2016,
    'magnitude',
    'sensitivity',
    'iterative',
    'none',
    'fine-tuning',
    (
      'Quality factors follow from a scan at an equal rise of the loss, not from choice by hand.',
      "A centroid moves by the mean of its weights' steps; the paper takes the sum "
      '(nuql_centroid_step sum).',
      'The smallest kernels are not pruned; they share weights as the others do.',
      'A gap that is too long costs a symbol and no padding zero.',
    ),
  ),
  *CHANNEL_METHODS,
  *FILTER_METHODS,
  Method(
    'block-drop',
    'joint-search',
    {'js_take': 'blocks', 'js_minimise': 'macs', 'js_file': 'float'},
    'MDP, CVPR 2025',
    2025,
    'divergence',
    'depth',
    'end-to-end',
    'none',
    'least-squares',
    (
      'Blocks are ranked by the divergence of the network without each; the paper learns importances.',
      'Blocks alone go; the paper chooses channels and blocks together, as joint-search does.',
      'Later layers are refit to the outputs that they had, then the network is trained.',
      'A budget of MACs is --js_max_macs; without one the loss decides.',
    ),
  ),
  *PRESSURE_METHODS,
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
  return config(**config.with_settings(_fields(method), settings))


def useful_settings(method: Method) -> dict[str, Any]:
  """A row's flags that have an effect by themselves; others have one beside flags that are given."""
  config = get_learner(method.learner).Config
  found = config.with_settings(_fields(method), {})
  return {config.prefix + name: value for name, value in found.items()}


def _fields(method: Method) -> dict[str, Any]:
  prefix = get_learner(method.learner).Config.prefix
  return {flag.removeprefix(prefix): value for flag, value in method.settings.items()}


def table() -> str:
  """All methods as text: name, learner, paper, the five answers, settings and deviations."""
  blocks = []
  for method in METHODS.values():
    answers = ', '.join(
      f'{question} {getattr(method, question)}'
      for question in ('criterion', 'allocation', 'schedule', 'pressure', 'repair')
    )
    settings = ' '.join(f'--{flag}={value}' for flag, value in useful_settings(method).items())
    lines = [f'{method.name}  ({method.year}, {method.paper})', f'  {answers}']
    lines.append(f'  --learner {method.learner} {settings}')
    lines += [f'  differs: {deviation}' for deviation in method.deviations]
    blocks.append('\n'.join(lines))
  return '\n\n'.join(blocks)
