"""Begin and end of a search, with fakes in place of networks: what is trained, and what stays."""

import dataclasses
import functools
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners.joint_search import JointSearchLearner
from secateurs.learners.search import opening
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.files import Costs
from secateurs.learners.search.learner import SearchLearner
from secateurs.learners.search.networks import NetworkLearner
from secateurs.learners.search.state import JsState, Taken, Try
from secateurs.learners.search.trying import Judged
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.scores import Score

NB_SAMPLES = 1000


def ended(weight, goodness, **limit):
  """State and weights after a last training with such bytes and such a score; 0.9 is the reference."""
  before = Try(1, 0, 199e3, 199e3, score=0.89, drop=0.01, most=0.015, accepted=True)
  state = JsState(file='float', tries=[before], chosen=1, reference=[0.9] * 50)
  weights = []
  learner = SimpleNamespace(
    state=state,
    config=JsConfig(**limit),
    model=SimpleNamespace(set_weights=weights.append),
    settings=SimpleNamespace(in_float32=lambda model: model),
    _plan=None,
    _shadows=None,
    _train=lambda *_: None,
    _halve=lambda: None,
    _judge=lambda _: Judged(Score('accuracy', goodness), [goodness] * 50, NB_SAMPLES),
    _costs=SimpleNamespace(predictor=lambda _: None, of=lambda *_, rough: weight),
    _network=lambda _: SimpleNamespace(get_weights=lambda: 'those before'),
  )
  for name in ('_over', '_cost_with'):
    setattr(learner, name, functools.partial(getattr(JointSearchLearner, name), learner))
  JointSearchLearner._finetune(learner)
  return state.final, weights


@pytest.mark.parametrize(
  ('weight', 'goodness', 'limit', 'stays'),
  [
    (200e3, 0.895, {'max_bytes': '200kB'}, True),
    (200_001, 0.895, {'max_bytes': '200kB'}, False),  # Over by one byte.
    (199e3, 0.88, {'max_bytes': '200kB'}, False),  # Loses more than the network before.
    (300e3, 0.88, {'max_drop': 0.03}, True),  # Within what is allowed.
    (100e3, 0.86, {'max_drop': 0.03}, False),
  ],
)
def test_the_network_before_stays_where_the_last_training_breaks_a_limit(
  weight, goodness, limit, stays
):
  final, weights = ended(weight, goodness, **limit)
  assert weights == ([] if stays else ['those before'])
  assert final['score'] == (goodness if stays else 0.89)


def test_a_search_that_is_resumed_before_its_first_try_does_not_look_for_the_reference_again(
  monkeypatch,
):
  monkeypatch.setattr(opening, 'may_have_seen', lambda settings: True)
  state, trained = JsState(start=1.0, step=0.7, reference=[0.9] * 50, reference_value=0.9), []
  learner = SimpleNamespace(
    state=state,
    config=JsConfig(),
    settings=SimpleNamespace(in_float32=lambda model: model),
    session=SimpleNamespace(times=SimpleNamespace(entries={})),
    save=lambda *_: None,
    _candidate=None,
    _network=lambda _: None,
    _cost_of=lambda _: 1.0,
    _costs=Costs('bytes', 'float', None, None, 0.0),
    _train_candidate=lambda tried: trained.append(tried.number),
    _judge=lambda _: Judged(Score('accuracy', 0.8), [0.8] * 50, NB_SAMPLES),
    _harm=lambda *_: 0.0,
    original_model=lambda: None,
    _try=lambda stand: 'It was stopped.',
    _take=lambda number: None,
    _begin=lambda tried, model: setattr(state, 'candidate', tried),
  )
  learner._finish, learner._refer = (
    functools.partial(method, learner) for method in (SearchLearner._finish, SearchLearner._refer)
  )
  for _ in range(2):
    state.ended = ''
    JointSearchLearner._search(learner)
  assert trained == [0]
  assert state.reference_is == 'the original after the training of a try'
  assert state.reference_value == 0.8


@pytest.mark.parametrize(('after', 'undone'), [(0.87, True), (0.895, False), (0.95, False)])
def test_a_training_that_ruins_a_try_is_undone(after, undone):
  weights = []
  candidate = SimpleNamespace(set_weights=weights.append)
  cut = SimpleNamespace(get_weights=lambda: 'as cut')
  learner = SimpleNamespace(
    state=JsState(file='float'),
    config=JsConfig(max_drop=0.01),
    settings=SimpleNamespace(in_float32=lambda model: model),
    _lesson=lambda _: ('try1', candidate, 1),
    _train=lambda *_: None,
    _network=lambda number, trained: cut,
    _harm=lambda before, found: 0.9 - after if (before, found) == (cut, candidate) else 0.0,
  )
  learner._is_ruined = functools.partial(SearchLearner._is_ruined, learner)
  tried = Try(1, 0, 1.0)
  SearchLearner._train_candidate(learner, tried)
  assert (tried.as_cut, weights) == (undone, ['as cut'] if undone else [])


@pytest.mark.parametrize(('harm', 'undone'), [(0.3, True), (0.0, False)])
def test_new_statistics_that_ruin_a_network_are_not_taken(harm, undone):
  inputs = keras.Input((4,))
  cut = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
  learner = SimpleNamespace(
    state=JsState(file='float'),
    config=JsConfig(max_drop=0.01),
    bn_batches=lambda _: [np.full((8, 4), 3.0, np.float32)],
    _harm=lambda *_: harm,
  )
  learner._is_ruined = functools.partial(SearchLearner._is_ruined, learner)
  found = SearchLearner._with_statistics(learner, cut, 'try 1')
  assert (found is cut) == undone
  np.testing.assert_allclose(found.get_weights()[2], 0.0 if undone else 3.0)
  np.testing.assert_allclose(cut.get_weights()[2], 0.0)


def test_latencies_are_measured_against_the_original_at_as_many_threads():
  timed = [{'threads': 4, 'p50_ms': 1.0}, {'threads': 1, 'p50_ms': 3.0}]
  learner = SimpleNamespace(
    state=JsState(),
    config=JsConfig(minimise='latency'),
    settings=None,
    files=SimpleNamespace(original_prefix=Path('original')),
    session=SimpleNamespace(state=SimpleNamespace(original={'latency': timed})),
  )
  assert NetworkLearner._costs.fget(learner).original_ms == 3.0


@pytest.mark.parametrize(('spent', 'longer'), [(0.0, True), (230.0, True), (234.1, False)])
def test_no_try_trains_longer_once_the_time_of_the_search_is_over(spent, longer):
  learner = SimpleNamespace(state=JsState(seconds=spent), config=JsConfig(time='6m'))
  tried = Try(1, 0, 1.0)
  assert SearchLearner._has_time(learner, tried, time.perf_counter()) is longer
  assert not SearchLearner._has_time(learner, tried, time.perf_counter() - 60)


@pytest.mark.parametrize(('as_cut', 'settled'), [(True, True), (False, False)])
def test_a_try_whose_training_was_undone_does_not_train_longer(as_cut, settled):
  learner = SimpleNamespace(
    state=JsState(reference=[0.9] * 50, step=0.7),
    config=JsConfig(max_drop=0.01),
    _trim_a_little=lambda *_: None,
    _judge=lambda _: Judged(Score('accuracy', 0.88), [0.88] * 50, NB_SAMPLES),
    _costs=SimpleNamespace(predictor=lambda _: None, of=lambda *_: 1.0),
    _has_time=lambda *_: True,
  )
  tried = Try(1, 0, 1.0, as_cut=as_cut)
  assert SearchLearner._settled(learner, tried, None, 0.0) is settled
  assert learner.state.tries == ([tried] if settled else [])


def test_what_was_too_much_is_not_tried_again_in_a_smaller_step():
  block = Taken('add', 'block', 1, 0, 0.6)
  state = JsState(step=0.7, tries=[Try(1, 0, 0.058, taken=[block])])
  learner = SimpleNamespace(state=state)
  assert SearchLearner._was_tried(learner, [dataclasses.replace(block, loss=0.61)])
  assert state.step == pytest.approx(0.7**0.5)
  assert not SearchLearner._was_tried(learner, [block, Taken('conv', 'channels', 16, 8, 0.1)])
  state.base = 1  # From another network it may be worth it.
  assert not SearchLearner._was_tried(learner, [block])


def test_a_try_whose_file_does_not_run_is_too_much():
  def predictor(model):
    raise UserError('it does not open')

  learner = SimpleNamespace(
    state=JsState(reference=[0.9] * 50, step=0.7),
    config=JsConfig(max_drop=0.01),
    _trim_a_little=lambda *_: None,
    _judge=lambda _: Judged(Score('accuracy', 0.9), [0.9] * 50, NB_SAMPLES),
    _costs=SimpleNamespace(predictor=predictor, of=lambda *_: 1.0),
  )
  for number in (1, 2):
    assert SearchLearner._settled(learner, Try(number, 0, 1.0), None, 0.0)
    learner._costs = SimpleNamespace(predictor=lambda _: None, of=lambda *_: float('inf'))
  assert not learner.state.tries
  assert learner.state.step == pytest.approx(0.7**0.25)
