"""The end of a search, with fakes in place of networks: what was trained last stays, or gives way."""

from types import SimpleNamespace

import pytest

from secateurs.learners.joint_search import JointSearchLearner
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.state import JsState, Try
from secateurs.learners.search.trying import Judged
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
