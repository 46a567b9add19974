"""What joint-search says in the report: notes, limits and what was reached, the path of the search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from secateurs.learners.search.building import BITS, ZEROS
from secateurs.learners.search.confidence import Drop, least_samples, samples_for
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.planning import path_of
from secateurs.learners.search.state import JsState, Try
from secateurs.learners.search.telling import amount, judges, kept_to_limit, moved, size
from secateurs.utils.deploy.reports.blocks import median_latency
from secateurs.utils.training.tasks.scores import Score

_MORE = 0.005  # Half a point.
_NOTICED = 0.99  # Of the cost: what saves less is not worth a sentence.
_WORTH_TRAINING = 0.25  # Fraction of the allowed drop that integers alone may take unmentioned.
_LEAST = 'as little as possible'


def notes(config: JsConfig, state: JsState, *, in_8_bits: bool = False) -> list[str]:
  """What the reader must know of the search.

  Args:
    config: what was asked for.
    state: of the search.
    in_8_bits: whether training in 8 bits followed.
  """
  found = [
    _held_out(config, state),
    _eight_bits(config, state, in_8_bits),
    _as_cut(state),
    more_would_buy(config, state),
  ]
  return [note for note in found if note]


def _eight_bits(config: JsConfig, state: JsState, trained: bool) -> str | None:
  """What the integers alone lose, and what makes up for it."""
  final = state.final or {}
  if trained and state.file == 'int8':
    return (
      'This is before the training in 8 bits (--enbl_qat), which the evaluation set judges alone.'
    )
  lost = final.get('drop', 0.0) - final.get('drop_as_float', final.get('drop', 0.0))
  if lost <= _WORTH_TRAINING * config.drop:
    return None
  return (
    f'Of this drop {size(state, lost)} are lost by the int8 file against the same network as a float '
    'file: --enbl_qat trains in 8 bits at the end, --export_int8 auto repairs the file.'
  )


def _as_cut(state: JsState) -> str | None:
  """That trainings did harm."""
  number = sum(one.as_cut for one in state.tries)
  if not number:
    return None
  return (
    f'The training of {number} of {len(state.tries)} tries was undone: on training samples it lost '
    'more than is allowed against the network before it. Either batch-norm statistics of the '
    'original are of other data than these (check --preprocess), or the rate is too high '
    '(--lrn_rate_ft).'
  )


def _held_out(config: JsConfig, state: JsState) -> str:
  if not state.chosen:
    return _nothing_taken(config, state)
  last = state.final or {}
  return (
    f'On {state.nb_judged} {judges(config)} the score, compared with '
    f'{state.reference_is}, {moved(state, last["drop"], last["most"])}. Search: {state.ended}'
  )


def _nothing_taken(config: JsConfig, state: JsState) -> str:
  if config.limit is not None:
    return (
      f'The original needs {amount(config.cost, state.start)} in its {state.file} file, which is '
      f'within the limit of {amount(config.cost, config.limit)}: nothing was taken.'
    )
  best = min(state.tries, key=lambda one: one.most, default=None)
  seen = (
    ''
    if best is None
    else (
      f' The score of the nearest try {moved(state, best.drop, best.most)}'
      f'{_samples_needed(config, state, best)}.'
    )
  )
  return (
    f'No try kept to the limit of {size(state, config.drop)} with 95 % confidence on '
    f'{state.nb_judged} {judges(config)}, so that only the kind of file ({state.file}) has '
    f'changed.{seen}'
  )


def _samples_needed(config: JsConfig, state: JsState, tried: Try) -> str:
  """On how many samples a drop like that of a try would be shown to be within the limit."""
  drop = Drop.of(tried.drop, tried.most, config.nb_looks)
  number = samples_for(drop, config.drop, state.nb_judged)
  if number is None:
    return ''
  return f'; about {number:,} samples would show such a drop to be within the limit'


def more_would_buy(config: JsConfig, state: JsState) -> str | None:
  """What half a point more would have bought, by the tries that were made.

  Between the network that was chosen and the next try the cost is read off a straight line over what
  the drops do not exceed; of a step that saves less than one per cent nothing is said. Of a score that
  is no fraction, half of the limit stands for half a point.
  """
  if config.limit is not None or not state.tries:
    return None
  extra = _MORE if state.percent else config.drop / 2
  wanted, words = config.drop + extra, 'Half a point' if state.percent else f'{extra:.3g}'
  here = state.tries[state.chosen - 1] if state.chosen else None
  cost, most = (here.cost, here.most) if here else (state.start, 0.0)
  smaller = [one for one in state.tries if one.cost < cost]
  if not smaller:
    return f'What {words.lower()} more would buy is not known: no smaller network was tried.'
  within = [one for one in smaller if one.most <= wanted]
  if within:
    best = min(within, key=lambda one: one.cost)
    if best.cost > _NOTICED * cost:
      return None
    return (
      f'{words} more would buy {amount(config.cost, best.cost)} in place of '
      f'{amount(config.cost, cost)}: try {best.number}.'
    )
  next_one = max(smaller, key=lambda one: one.cost)
  if not most < config.drop < next_one.most < math.inf:
    return f'{words} more would buy nothing that was tried.'
  slope = (next_one.cost - cost) / (next_one.most - config.drop)
  guess = cost + slope * extra
  if guess > _NOTICED * cost:
    return None
  return (
    f'{words} more would buy about {amount(config.cost, guess)} in place of '
    f'{amount(config.cost, cost)}: on the line to try {next_one.number}, which costs '
    f'{amount(config.cost, next_one.cost)} and drops by at most {size(state, next_one.most)}.'
  )


def requested(config: JsConfig) -> dict[str, Any]:
  """The limits that flags asked for, by the names of `achieved`."""
  cost = f'max_{config.cost}'
  if config.limit is not None:
    return {cost: config.limit, 'max_drop': _LEAST, 'time': config.seconds}
  drop = config.drop
  return {'max_drop': drop, 'max_drop_held_out': drop, cost: _LEAST, 'time': config.seconds}


def reached(
  config: JsConfig, state: JsState, report: Mapping[str, Any], seconds: float
) -> dict[str, float | None]:
  """What of it was reached, in the file that was searched for.

  Args:
    config: what was asked for.
    state: of the search.
    report: with the blocks of original and compressed.
    seconds: of search and training.
  """
  block, file = report['compressed'], deployed(report, state.file)
  costs = {
    'bytes': (block.get('packed') or {}).get('bytes')
    if state.file == 'packed'
    else file.get('bytes', file.get('tflite_bytes')),
    'latency': median_latency(file),
    'macs': block.get('macs'),
    'ram': file.get('ram_bytes'),
  }
  return {
    'max_drop': drop_of(report, state.file),
    'max_drop_held_out': (state.final or {}).get('most'),
    f'max_{config.cost}': costs[config.cost],
    'time': seconds,
  }


def deployed(report: Mapping[str, Any], file: str) -> Mapping[str, Any]:
  """The block of the file that was searched for."""
  block = report['compressed']
  return block['int8'] if file == 'int8' and 'int8' in block else block


def drop_of(report: Mapping[str, Any], file: str) -> float:
  """By how much that file is worse than the original on the evaluation set."""
  before, after = (Score(**one['score']) for one in (report['original'], deployed(report, file)))
  return before.goodness - after.goodness


def verdict(config: JsConfig, state: JsState, report: Mapping[str, Any], *, limited: bool) -> str:
  """Whether the limit held on the evaluation set, which was looked at once.

  Args:
    config: what was asked for.
    state: of the search.
    report: with the blocks of original and compressed.
    limited: whether the drop has a limit.
  """
  drop, number = drop_of(report, state.file), report.get('nb_smpls_eval') or 0
  if not limited:
    cost = report.get('achieved', {}).get(f'max_{config.cost}')
    return (
      f'On the evaluation set the score of the {state.file} file {moved(state, drop)}.'
      f'{kept_to_limit(config, cost)}'
    )
  held = 'within' if drop <= config.drop + 1e-9 else 'more than'
  least = least_samples(config.drop) if state.percent else 0
  few = (
    f' So few samples ({number:,}) cannot show such a drop: {least:,} are the least.'
    if number < least
    else ''
  )
  return (
    f'On the evaluation set, looked at once, the score of the {state.file} file '
    f'{moved(state, drop)}, {held} the {size(state, config.drop)} that were allowed.{few}'
  )


def figures(config: JsConfig, state: JsState) -> dict[str, Any]:
  """The path of the search and what was taken, as tables of plain values."""
  path = [
    {
      'try': one.number,
      'from': one.base,
      config.cost: one.cost,
      'ratio': one.cost / state.cost,
      'drop': one.drop,
      'drop at most': one.most,
      'divergence predicted': one.predicted,
      'accepted': one.accepted,
      'seconds': one.seconds,
    }
    for one in state.tries
  ]
  return {
    'search_path': {
      'cost': config.cost,
      'file': state.file,
      'original': state.cost,
      'start': state.start,
      'limit': config.limit,
      'max_drop': None if config.limit is not None else config.drop,
      'percent': state.percent,
      'chosen': state.chosen or 0,
      'tries': path,
    },
    'taken': taken_table(state),
    'held_out': {
      'samples': state.nb_judged,
      'looks': config.nb_looks,
      'reference': state.reference_is,
      'tries_train_steps': state.try_steps,
      **(state.final or {}),
    },
  }


def taken_table(state: JsState) -> list[dict[str, Any]]:
  """What the chosen network lost, by part: how it was at first, and how it is now."""
  found: dict[str, dict[str, Any]] = {}
  for tried in path_of(state):
    for one in tried.taken:
      name = one.part.removeprefix(ZEROS).removeprefix(BITS)
      row = found.setdefault(
        f'{one.kind} {name}', {'layer': name, 'what': one.kind, 'before': one.before}
      )
      row |= {'after': one.after, 'divergence': row.get('divergence', 0.0) + one.loss}
  return sorted(found.values(), key=lambda row: (row['what'], row['layer']))
