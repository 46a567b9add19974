import dataclasses

import pytest

from secateurs.learners.search import findings, telling
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.state import JsState, Try
from secateurs.utils.training.tasks.scores import Score


def tried(number, cost, most, *, base=0, accepted=False, drop=None):
  drop = most - 0.004 if drop is None else drop
  return Try(number, base, cost, cost, drop=drop, most=most, accepted=accepted)


def state(*tries, **options):
  given = {'file': 'int8', 'cost': 400e3, 'start': 100e3, 'nb_judged': 500, 'ended': 'Enough.'}
  return JsState(tries=list(tries), **{**given, **options})


FIRST = tried(1, 70e3, 0.006, accepted=True)


@pytest.mark.parametrize(
  ('tries', 'chosen', 'text'),
  [
    ([], 0, None),
    ([FIRST], 1, 'What half a point more would buy is not known: no smaller network was tried.'),
    ([FIRST, tried(2, 50e3, 0.014)], 1, 'would buy 50.0 kB in place of 70.0 kB: try 2.'),
    # From 70 kB at the limit of 1 pt to 50 kB at 3 pt: a quarter of the way.
    ([FIRST, tried(2, 50e3, 0.03)], 1, 'about 65.0 kB in place of 70.0 kB: on the line to try 2'),
    ([tried(1, 70e3, 0.03)], 0, 'about 92.5 kB in place of 100.0 kB'),
    # Less than one per cent.
    ([FIRST, tried(2, 69.9e3, 0.014)], 1, None),
    ([FIRST, tried(2, 69.5e3, 0.03)], 1, None),
    ([tried(1, 70e3, float('inf'))], 0, 'would buy nothing that was tried'),
  ],
)
def test_what_half_a_point_more_would_buy(tries, chosen, text):
  found = findings.more_would_buy(JsConfig(max_drop=0.01), state(*tries, chosen=chosen))
  assert found is None if text is None else text in found


def test_latencies_and_scores_that_are_no_fractions():
  config = JsConfig(max_drop=0.2, minimise='latency')
  few = state(
    tried(1, 0.5, 0.1, accepted=True), tried(2, 0.25, 0.25), chosen=1, percent=False, start=1.0
  )
  found = findings.more_would_buy(config, few)
  assert found == '0.1 more would buy 0.250 ms in place of 0.500 ms: try 2.'
  assert findings.more_would_buy(JsConfig(max_bytes='1kB'), few) is None


def test_a_search_that_took_nothing_says_why():
  (note, _) = findings.notes(JsConfig(max_drop=0.01), state(tried(1, 70e3, 0.013, drop=0.004)))
  assert 'No try kept to the limit of 1.00 pt' in note
  # (0.013 - 0.004)^2 / (0.01 - 0.004)^2 times as many samples.
  assert 'about 1,125 samples would show such a drop' in note
  (note,) = findings.notes(JsConfig(max_bytes='200kB'), state())
  assert 'needs 100.0 kB in its int8 file, which is within the limit of 200.0 kB' in note


def score(value):
  return {'name': 'accuracy', 'value': value}


def test_limits_stand_beside_what_was_reached():
  int8 = {
    'score': score(0.89),
    'bytes': 50e3,
    'ram_bytes': 9e3,
    'latency': [{'threads': 1, 'p50_ms': 2}],
  }
  block = {'score': score(0.9), 'tflite_bytes': 190e3, 'macs': 5e6, 'int8': int8}
  report = {'original': {'score': score(0.91)}, 'compressed': block, 'nb_smpls_eval': 100}
  searched = state(FIRST, chosen=1, final={'drop': 0.001, 'most': 0.007})
  for flags, cost, limit in (
    ({'max_drop': 0.03}, 50e3, 'as little as possible'),
    ({'max_drop': 0.03, 'minimise': 'ram'}, 9e3, 'as little as possible'),
    ({'max_latency': '3ms'}, 2, 3.0),
    ({'max_macs': '6M'}, 5e6, 6e6),
  ):
    config = JsConfig(**flags)
    asked = findings.requested(config)
    found = findings.reached(config, searched, report, 12.0)
    name = f'max_{config.cost}'
    assert (asked[name], found[name]) == (limit, cost)
    assert found['max_drop'] == pytest.approx(0.02)
    assert set(asked) <= set(found)
    assert (asked['time'], found['time']) == (1800.0, 12.0)
  verdict = findings.verdict(JsConfig(max_drop=0.01), searched, report, limited=True)
  assert 'the score of the int8 file dropped by 2.00 pt, more than the 1.00 pt' in verdict
  assert 'So few samples (100) cannot show such a drop: 271 are the least' in verdict


def test_what_the_integers_lose_is_said_where_it_is_much():
  config, final = JsConfig(max_drop=0.01), {'drop': 0.006, 'most': 0.009, 'drop_as_float': 0.001}
  lossy = state(FIRST, chosen=1, final=final)
  assert any('Of this drop 0.50 pt are lost' in note for note in findings.notes(config, lossy))
  assert any(
    'before the training in 8 bits' in one for one in findings.notes(config, lossy, in_8_bits=True)
  )
  fine = state(FIRST, chosen=1, final={**final, 'drop_as_float': 0.005})
  assert not any('int8 file against' in note for note in findings.notes(config, fine))


@pytest.mark.parametrize(('higher', 'text'), [(True, 'at most 0.01 less'), (False, '0.01 more')])
def test_a_score_that_is_to_be_low_may_be_higher(higher, text):
  found = telling.opening(JsConfig(max_drop=0.01), state(), Score('MAE', 0.8, higher, 'number'))
  assert text in found


def test_trainings_that_were_undone_are_counted():
  undone = dataclasses.replace(FIRST, as_cut=True)
  found = findings.notes(
    JsConfig(max_drop=0.01),
    state(undone, tried(2, 50e3, 0.014), chosen=1, final={'drop': 0.0, 'most': 0.006}),
  )
  assert 'The training of 1 of 2 tries was undone' in found[1]


@pytest.mark.parametrize(
  ('drop', 'most', 'percent', 'text'),
  [
    (0.002, 0.0065, True, 'dropped by 0.20 pt, with 95 % confidence by at most 0.65 pt'),
    (-0.0148, None, True, 'rose by 1.48 pt'),
    (-0.0148, -0.004, True, 'rose by 1.48 pt, with 95 % confidence by at least 0.40 pt'),
    (-0.001, 0.004, True, 'rose by 0.10 pt; with 95 % confidence it dropped by at most 0.40 pt'),
    (-0.02, None, False, 'improved by 0.02'),  # Of an error, which falls then.
  ],
)
def test_a_score_that_gets_better_does_not_drop(drop, most, percent, text):
  assert telling.moved(state(percent=percent), drop, most) == text
  for given in ({'max_drop': 0.01}, {'max_bytes': '200kB'}):
    config = JsConfig(**given)
    report = {'original': {'score': score(0.9)}, 'compressed': {'score': score(0.9 - drop)}}
    found = findings.verdict(
      config, state(percent=percent, file='float'), report, limited=config.limit is None
    )
    assert f'{text.split(",")[0].split(";")[0]}' in found
    final = {'drop': drop, 'most': 0.0 if most is None else most}
    notes = findings.notes(config, state(FIRST, chosen=1, final=final, percent=percent))
    assert 'by -' not in ' '.join(notes)
    assert 'by +' not in ' '.join(notes)
