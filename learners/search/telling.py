"""What joint-search says: lines on the terminal, and its part of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateurs.learners.search.building import BITS, ZEROS
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.state import JsState, Try
from secateurs.learners.search.stepping import Stand
from secateurs.utils.deploy.reports.units import fmt_bytes, fmt_macs
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.progress import format_seconds
from secateurs.utils.training.tasks.scores import Score

_MORE = 0.005  # Half a point.
_NAMES = {'bytes': 'bytes', 'latency': 'latency', 'macs': 'MACs', 'ram': 'RAM of feature maps'}


def amount(cost: str, value: float) -> str:
  """A cost for people."""
  if cost in ('bytes', 'ram'):
    return fmt_bytes(value)
  return fmt_macs(value) if cost == 'macs' else f'{value:.3f} ms'


def points(value: float) -> str:
  """A difference of a score in points; those of other scores are shown as they are."""
  return f'{100 * value:+.2f} pt'


def plan(config: JsConfig, nb_samples: int) -> str:
  """What a search would do."""
  goal = f'the least {_NAMES[config.cost]} at a drop of at most {config.max_drop:g}'
  if config.limit is not None:
    goal = f'the least loss within {amount(config.cost, config.limit)} of {_NAMES[config.cost]}'
  return (
    f'Search: {goal}, judged on {nb_samples} samples; at most {config.nb_tries} tries, about '
    f'{format_seconds(config.seconds)} for search and training.'
  )


def opening(config: JsConfig, state: JsState, score: Score) -> str:
  """What is known before the first try."""
  whole, start = amount(config.cost, state.cost), amount(config.cost, state.start)
  wanted = f'at most {config.max_drop:g} less' if config.limit is None else 'as much as possible'
  goal = '' if config.limit is None else f', to be at most {amount(config.cost, config.limit)}'
  return (
    f'survey  {_NAMES[config.cost]} {whole}, in a {state.file} file {start}{goal}; {score} on '
    f'{state.nb_judged} held-out samples, {wanted}; tries train {state.try_steps} steps, the end '
    f'{state.final_steps}'
  )


def beginning(config: JsConfig, tried: Try, stand: Stand) -> str:
  """What a try takes, before it is trained."""
  kinds = [one.kind for one in tried.taken]
  counts = ', '.join(f'{kind} {kinds.count(kind)}' for kind in dict.fromkeys(kinds))
  return (
    f'try {tried.number}  from {amount(config.cost, stand.cost)} to {amount(config.cost, tried.target)}'
    f': takes from {counts} (predicted divergence {tried.predicted:.4f})'
  )


def ending(config: JsConfig, state: JsState, tried: Try) -> str:
  """What came of a try."""
  share = tried.cost / state.cost
  verdict = 'goes on from here' if tried.accepted else 'too much'
  return (
    f'try {tried.number}  {amount(config.cost, tried.cost)} ({share:.3f}x), drop {points(tried.drop)}'
    f', at most {points(tried.most)} with 95 % confidence: {verdict}'
  )


def final(config: JsConfig, state: JsState) -> str:
  """What the last training gave."""
  found = state.final or {}
  return f'end  drop {points(found["drop"])}, at most {points(found["most"])} with 95 % confidence'


def require_limit(config: JsConfig, state: JsState) -> None:
  """Checks that a limit was met.

  Raises:
    UserError: it was not; says what was reached, and at what loss.
  """
  if config.limit is None:
    return
  costs = [(state.start, 0.0), *((one.cost, one.drop) for one in state.tries if one.accepted)]
  least, drop = min(costs)
  if least > config.limit * 1.01:
    raise UserError(
      f'--js_max_{config.cost} {amount(config.cost, config.limit)} was not met: the least that '
      f'was reached is {amount(config.cost, least)}, at a drop of {points(drop)} ({state.ended}) Raise '
      'the limit, give more --js_time or --js_nb_tries, or another --js_file or --js_trunk.'
    )


def findings(config: JsConfig, state: JsState) -> dict[str, Any]:
  """Notes, what was requested, and figures for the report."""
  notes = [_held_out(config, state), more_would_buy(config, state)]
  requested: dict[str, Any] = {'minimise': config.cost}
  if config.limit is None:
    requested['max_drop'] = config.max_drop
  else:
    requested[f'max_{config.cost}'] = config.limit
  return {
    'notes': [note for note in notes if note],
    'requested': requested,
    'extra': figures(config, state),
  }


def _held_out(config: JsConfig, state: JsState) -> str:
  last = state.final or {}
  if not state.chosen:
    best = min(state.tries, key=lambda one: one.most, default=None)
    seen = (
      ''
      if best is None
      else (f' The nearest try dropped by {points(best.drop)}, at most {points(best.most)}.')
    )
    return (
      f'No try kept to the limit of {points(config.max_drop)} with 95 % confidence on '
      f'{state.nb_judged} held-out samples, so that only the kind of file ({state.file}) has '
      f'changed.{seen}'
    )
  kind = 'evaluation samples that judged tries' if config.judge == 'half' else 'held-out samples'
  return (
    f'On {state.nb_judged} {kind} the score dropped by {points(last["drop"])} '
    f'against {state.reference_is}, with 95 % confidence by at most {points(last["most"])}. Search: '
    f'{state.ended}'
  )


def more_would_buy(config: JsConfig, state: JsState) -> str | None:
  """What half a point more would have bought, by the tries that were made."""
  if config.limit is not None or not state.tries:
    return None
  here = state.tries[state.chosen - 1].cost if state.chosen else state.start
  more = [one.cost for one in state.tries if one.most <= config.max_drop + _MORE]
  least = min(more, default=here)
  if least >= here:
    return 'Half a point more would buy nothing that was tried.'
  return (
    f'Half a point more would buy {amount(config.cost, least)} in place of '
    f'{amount(config.cost, here)}, by a try that was made.'
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
      'max_drop': None if config.limit is not None else config.max_drop,
      'chosen': state.chosen or 0,
      'tries': path,
    },
    'taken': taken_table(state),
    'held_out': {
      'samples': state.nb_judged,
      'reference': state.reference_is,
      'tries_train_steps': state.try_steps,
      **(state.final or {}),
    },
  }


def taken_table(state: JsState) -> list[dict[str, Any]]:
  """What the chosen network lost, by part: how it was at first, and how it is now."""
  number, steps = state.chosen or 0, []
  while number:
    tried = state.tries[number - 1]
    steps.append(tried)
    number = tried.base
  found: dict[str, dict[str, Any]] = {}
  for tried in reversed(steps):
    for one in tried.taken:
      name = one.part.removeprefix(ZEROS).removeprefix(BITS)
      row = found.setdefault(
        f'{one.kind} {name}', {'layer': name, 'what': one.kind, 'before': one.before}
      )
      row |= {'after': one.after, 'divergence': row.get('divergence', 0.0) + one.loss}
  return sorted(found.values(), key=lambda row: (row['what'], row['layer']))


def verdict(config: JsConfig, report: Mapping[str, Any], file: str) -> str:
  """Whether the limit held on the evaluation set, which was looked at once."""
  block, before = report['compressed'], Score(**report['original']['score'])
  if file == 'int8' and 'int8' in block:
    block = block['int8']
  after = Score(**block['score'])
  drop = before.goodness - after.goodness
  if config.limit is not None:
    return f'On the evaluation set the score of the {file} file dropped by {points(drop)}.'
  held = 'within' if drop <= config.max_drop + 1e-9 else 'more than'
  return (
    f'On the evaluation set, looked at once, the score of the {file} file dropped by {points(drop)}, '
    f'{held} the {points(config.max_drop)} that were allowed.'
  )
