"""What joint-search says: lines on the terminal."""

from __future__ import annotations

from secateurs.learners.search.config import HALF, JsConfig
from secateurs.learners.search.state import JsState, Try
from secateurs.learners.search.stepping import Stand
from secateurs.utils.deploy.reports.units import fmt_bytes, fmt_macs, fmt_ms
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.progress import format_seconds
from secateurs.utils.training.tasks.scores import Score

_NAMES = {'bytes': 'bytes', 'latency': 'latency', 'macs': 'MACs', 'ram': 'RAM of feature maps'}
_FORMS = {'bytes': fmt_bytes, 'ram': fmt_bytes, 'macs': fmt_macs, 'latency': fmt_ms}


def amount(cost: str, value: float) -> str:
  """A cost for people."""
  return _FORMS[cost](value)


def a_file(kind: str) -> str:
  """A kind of file with its article."""
  return f'an {kind} file' if kind == 'int8' else f'a {kind} file'


def judges(config: JsConfig) -> str:
  """What judges tries."""
  return 'evaluation samples that judge tries' if config.judge == HALF else 'held-out samples'


def points(state: JsState, value: float) -> str:
  """A difference of a score: in points, or of a score that is no fraction as it is."""
  return f'{100 * value:+.2f} pt' if state.percent else f'{value:+.4g}'


def size(state: JsState, value: float) -> str:
  """The same without a sign."""
  return points(state, abs(value)).removeprefix('+')


def moved(state: JsState, drop: float, most: float | None = None) -> str:
  """What a score did, to be read after it; with what its drop does not exceed, if that is given."""
  verb = 'dropped' if drop >= 0 else 'rose' if state.percent else 'improved'
  found = f'{verb} by {size(state, drop)}'
  if most is None:
    return found
  sure = 'with 95 % confidence'
  if drop >= 0:
    return f'{found}, {sure} by at most {size(state, most)}'
  if most < 0:
    return f'{found}, {sure} by at least {size(state, most)}'
  return f'{found}; {sure} it dropped by at most {size(state, most)}'


def plan(config: JsConfig, nb_samples: int) -> str:
  """What a search would do."""
  goal = f'the least {_NAMES[config.cost]} at a drop of at most {config.drop:g}'
  if config.limit is not None:
    goal = f'the least loss within {amount(config.cost, config.limit)} of {_NAMES[config.cost]}'
  return (
    f'Search: {goal}, judged on {nb_samples} samples; at most {config.nb_tries} tries, about '
    f'{format_seconds(config.seconds)} for search and training.'
  )


def opening(config: JsConfig, state: JsState, score: Score) -> str:
  """What is known before the first try."""
  whole, start = amount(config.cost, state.cost), amount(config.cost, state.start)
  worse = 'less' if score.higher_is_better else 'more'
  wanted = f'at most {config.drop:g} {worse}' if config.limit is None else 'as much as possible'
  goal = '' if config.limit is None else f', to be at most {amount(config.cost, config.limit)}'
  return (
    f'survey  {_NAMES[config.cost]} {whole}, in {a_file(state.file)} {start}{goal}; {score} on '
    f'{state.nb_judged} {judges(config)}, {wanted}; tries train {state.try_steps} steps, the end '
    f'{state.final_steps}'
  )


def beginning(config: JsConfig, tried: Try, stand: Stand) -> str:
  """What a try takes, before it is trained."""
  if not tried.taken:
    cost = amount(config.cost, tried.target)
    return f'try {tried.number}  {cost}: weights share few values, nothing goes'
  kinds = [one.kind for one in tried.taken]
  counts = ', '.join(f'{kind} {kinds.count(kind)}' for kind in dict.fromkeys(kinds))
  return (
    f'try {tried.number}  from {amount(config.cost, stand.cost)} to {amount(config.cost, tried.target)}'
    f': takes from {counts} (predicted divergence {tried.predicted:.4f})'
  )


def ending(config: JsConfig, state: JsState, tried: Try) -> str:
  """The outcome of a try."""
  share, drop = tried.cost / state.cost, points(state, tried.drop)
  verdict = 'the search continues from here' if tried.accepted else 'too much'
  return (
    f'try {tried.number}  {amount(config.cost, tried.cost)} ({share:.3f}x), drop {drop}'
    f', at most {points(state, tried.most)} with 95 % confidence: {verdict}'
  )


def final(state: JsState) -> str:
  """What the last training gave."""
  found = state.final or {}
  drop, most = points(state, found['drop']), points(state, found['most'])
  return f'end  drop {drop}, at most {most} with 95 % confidence'


def over_limit(config: JsConfig, cost: float) -> str:
  """What a file costs too much, as the end of a sentence; empty where it keeps to the limit."""
  if config.allowed is None or cost <= config.allowed:
    return ''
  return (
    f'left a file of {amount(config.cost, cost)}, over the limit of '
    f'{amount(config.cost, config.limit)}'
  )


def kept_to_limit(config: JsConfig, cost: float | None) -> str:
  """Whether the exported file keeps to the limit of its cost, as one more sentence."""
  if config.limit is None or cost is None:
    return ''
  found, limit = amount(config.cost, cost), amount(config.cost, config.limit)
  if cost <= config.allowed:
    return f' It takes {found}, within the limit of {limit}.'
  return f' It takes {found}, over the limit of {limit}: search again with a lower limit.'


def require_limit(config: JsConfig, state: JsState) -> None:
  """Checks that a limit was met.

  Raises:
    UserError: it was not; says what was reached, and at what loss.
  """
  if config.limit is None:
    return
  costs = [(state.start, 0.0), *((one.cost, one.drop) for one in state.tries if one.accepted)]
  least, drop = min(costs)
  if least > config.allowed:
    raise UserError(
      f'--js_max_{config.cost} {amount(config.cost, config.limit)} was not met: the least that '
      f'was reached is {amount(config.cost, least)}, where its score {moved(state, drop)} '
      f'({state.ended}) Raise the limit, give more --js_time or --js_nb_tries, or another --js_file or '
      '--js_trunk.'
    )
