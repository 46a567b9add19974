"""What a report is made of: the keys of `report.json`, schema 1, and their check."""

import math
import numbers
from collections.abc import Callable, Mapping

SCHEMA = 1

Check = Callable[[object, str], None]


def _wrong(where: str, expected: str, value: object) -> ValueError:
  return ValueError(
    f'report: {where} must be {expected}, got {value!r:.80} ({type(value).__name__})'
  )


def _number(value: object, where: str) -> None:
  """A finite number, or None for what was not measured."""
  if value is None:
    return
  if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
    raise _wrong(where, 'a finite number or null', value)


def _whole(value: object, where: str) -> None:
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise _wrong(where, 'a whole number', value)


def _text(value: object, where: str) -> None:
  if not isinstance(value, str):
    raise _wrong(where, 'a text', value)


def _anything(value: object, where: str) -> None:
  """Free content: any JSON value, every number of it finite."""
  if isinstance(value, Mapping):
    for key, item in value.items():
      _text(key, f'a key of {where}')
      _anything(item, f'{where}.{key}')
  elif isinstance(value, (list, tuple)):
    for index, item in enumerate(value):
      _anything(item, f'{where}[{index}]')
  elif not isinstance(value, (str, bool)):
    _number(value, where)


def _free_map(value: object, where: str) -> None:
  if not isinstance(value, Mapping):
    raise _wrong(where, 'an object', value)
  _anything(value, where)


def _list_of(check: Check, length: int | None = None) -> Check:
  def check_list(value: object, where: str) -> None:
    if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
      raise _wrong(where, 'a list' + (f' of {length}' if length else ''), value)
    for index, item in enumerate(value):
      check(item, f'{where}[{index}]')

  return check_list


def _or_none(check: Check) -> Check:
  return lambda value, where: None if value is None else check(value, where)


def _keyed(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
  checks = {**required, **optional}

  def check_keys(value: object, where: str) -> None:
    if not isinstance(value, Mapping):
      raise _wrong(where, 'an object', value)
    missing = [key for key in required if key not in value]
    unknown = [str(key) for key in value if key not in checks]
    if missing or unknown:
      parts = [f'lacks {", ".join(missing)}'] if missing else []
      parts += [f'has the unknown {", ".join(unknown)}'] if unknown else []
      raise ValueError(f'report: {where} {" and ".join(parts)}; known keys are {", ".join(checks)}')
    for key, item in value.items():
      checks[key](item, f'{where}.{key}' if where != 'the report' else key)

  return check_keys


def _number_map(value: object, where: str) -> None:
  """Numbers by names of the user's choice."""
  if not isinstance(value, Mapping):
    raise _wrong(where, 'an object', value)
  for key, item in value.items():
    _text(key, f'a key of {where}')
    _number(item, f'{where}.{key}')


def _numbers(*keys: str) -> dict[str, Check]:
  return dict.fromkeys(keys, _number)


_LATENCY = _list_of(_keyed({'threads': _whole, **_numbers('p50_ms', 'p90_ms', 'fps')}, {}))
_INT8 = _keyed(
  {},
  {
    **_numbers('accuracy', 'accuracy_top5', 'post_training_accuracy', 'loss'),
    **_numbers('bytes', 'gzip_bytes'),
    'metrics': _number_map,
    'latency': _LATENCY,
  },
)
_SPARSE = _keyed({}, {**_numbers('bytes', 'gzip_bytes'), 'latency': _or_none(_LATENCY)})
_BLOCK = _keyed(
  {},
  {
    **_numbers(
      'accuracy',
      'accuracy_top5',
      'accuracy_bn_reestimated',
      'loss',
      'params',
      'macs',
      'sparsity',
      'sparsity_params',
      'tflite_bytes',
      'tflite_gzip_bytes',
    ),
    'metrics': _number_map,
    'latency': _or_none(_LATENCY),
    'int8': _or_none(_INT8),
    'sparse': _or_none(_SPARSE),
  },
)
_ACHIEVED = _keyed(
  {},
  _numbers(
    'prune_ratio',
    'channels_ratio',
    'macs_ratio',
    'params_ratio',
    'latency_ratio',
    'sparsity',
    'sparsity_params',
  ),
)
_PAIR = _list_of(_number, 2)
_LAYER = _keyed(
  {
    'name': _text,
    'type': _text,
    'in_channels': _PAIR,
    'out_channels': _PAIR,
    'macs': _PAIR,
    'params': _PAIR,
  },
  {'sparsity': _number},
)
_PHASE = _keyed({'name': _text, 'iters': _number, 'seconds': _number}, {})
_PARITY = _keyed(
  {},
  _numbers(
    'slim_vs_masked',
    'tflite_vs_keras',
    'pb_vs_keras',
    'reloaded_vs_keras',
    'int8_top1_agreement',
    'int8_max_diff_steps',
  ),
)
_LINK = _keyed(
  {'learner': _text},
  {
    'original': _or_none(_BLOCK),
    'pruned': _or_none(_BLOCK),
    'compressed': _or_none(_BLOCK),
    'requested': _free_map,
    'achieved': _ACHIEVED,
    'layers': _list_of(_LAYER),
    'phases': _list_of(_PHASE),
    'parity': _PARITY,
    'flags': _free_map,
    'seconds_total': _number,
    'changes': _free_map,
    'extra': _free_map,
  },
)


def _schema_version(value: object, where: str) -> None:
  if value != SCHEMA or isinstance(value, bool):
    raise _wrong(where, str(SCHEMA), value)


_REPORT = _keyed(
  {
    'schema': _schema_version,
    'learner': _text,
    'net': _text,
    'dataset': _text,
    'seed': _whole,
    'flags': _free_map,
    'versions': _free_map,
    'nb_workers': _whole,
    'original': _BLOCK,
    'compressed': _BLOCK,
    'requested': _free_map,
    'achieved': _ACHIEVED,
    'layers': _list_of(_LAYER),
    'phases': _list_of(_PHASE),
    'images_per_sec': _number,
    'seconds_total': _number,
    'parity': _PARITY,
  },
  {
    'pruned': _or_none(_BLOCK),
    'links': _list_of(_LINK),
    'changes': _free_map,
    'notes': _list_of(_text),
    'extra': _free_map,
  },
)

KEY_ORDER = (
  'schema',
  'learner',
  'net',
  'dataset',
  'seed',
  'nb_workers',
  'notes',
  'original',
  'pruned',
  'compressed',
  'changes',
  'links',
  'requested',
  'achieved',
  'parity',
  'layers',
  'phases',
  'images_per_sec',
  'seconds_total',
  'flags',
  'versions',
  'extra',
)
"""The order of the keys in `report.json`: what a reader looks for first comes first."""


def validate_report(report: Mapping) -> None:
  """Checks a report against schema 1.

  Raises:
    ValueError: a key is missing or unknown, or a value has the wrong form; the key is named by its
      path, e.g. 'compressed.latency[0].p50_ms'.
  """
  _REPORT(report, 'the report')
