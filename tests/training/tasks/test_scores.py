import json
import math

import pytest

from secateurs.utils.training.tasks.scores import Evaluation, Score, binomial_noise


def test_goodness_turns_round_where_lower_is_better():
  assert Score('accuracy', 0.9).goodness == 0.9
  assert Score('error', 0.9, higher_is_better=False).goodness == -0.9


def test_texts():
  assert str(Score('accuracy', 0.91239)) == 'accuracy 91.24 %'
  assert str(Score('mean_error', 12.34567, unit='number')) == 'mean_error 12.35'


@pytest.mark.parametrize(
  ('share', 'nb', 'expected'),
  [(0.5, 100, 0.05), (0.0, 7, 0.0), (1.0, 7, 0.0), (1 + 1e-12, 7, 0.0), (0.5, 0, None)],
)
def test_binomial_noise(share, nb, expected):
  assert binomial_noise(share, nb) == expected


def test_json_round_trip():
  score = Score('mean_iou', 0.5, noise=0.01)
  assert Score(**json.loads(json.dumps(score.as_json()))) == score


def test_a_block_names_what_is_in_percent():
  found = Evaluation(Score('accuracy', 0.75, noise=0.1), 0.5, 20).block()
  assert found == {
    'score': {
      'name': 'accuracy',
      'value': 0.75,
      'higher_is_better': True,
      'unit': 'percent',
      'noise': 0.1,
    },
    'accuracy': 0.75,
    'loss': 0.5,
  }


def test_a_block_holds_figures_and_metrics_where_there_are_some():
  top5 = Score('accuracy_top5', 0.95, noise=0.05)
  error = Score('mean_error', 3.5, higher_is_better=False, unit='number')
  score = Score('rank_correlation', 0.25, unit='number')
  found = Evaluation(score, 0.5, 20, (top5, error), {'margin': 2.0}).block()
  assert found == {
    'score': score.as_json(),
    'accuracy_top5': 0.95,
    'loss': 0.5,
    'figures': [top5.as_json(), error.as_json()],
    'metrics': {'margin': 2.0},
  }
  assert json.loads(json.dumps(found)) == found
  assert not math.isnan(found['loss'])
