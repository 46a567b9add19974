"""One level of each part, against dynamic programming over all savings."""

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

from secateurs.learners.run import one_each as module
from secateurs.learners.run.one_each import one_each


def least_loss(losses, savings, need):
  """The least loss by whole savings, part by part."""
  best = {0: 0.0}
  for loss, saving in zip(losses, savings, strict=True):
    new = {}
    for saved, lost in best.items():
      for more, one in zip(saving, loss, strict=True):
        key = min(saved + int(more), need)
        new[key] = min(new.get(key, np.inf), lost + one)
    best = new
  return best.get(need, np.inf)


@pytest.mark.parametrize('seed', range(4))
def test_the_least_loss_is_exact(seed):
  # Losses in proportion to savings but for a ten-thousandth: a gap of 1e-4 would stop too early.
  rng = np.random.default_rng(seed)
  savings = [np.cumsum([0, *rng.integers(1, 40, 4)]) for _ in range(12)]
  losses = [1e-3 * one * (1 + 1e-4 * rng.random(len(one))) for one in savings]
  need = int(0.4 * sum(one[-1] for one in savings))
  places = one_each(losses, savings, need)
  assert sum(one[place] for one, place in zip(savings, places, strict=True)) >= need
  found = sum(one[place] for one, place in zip(losses, places, strict=True))
  assert found == pytest.approx(least_loss(losses, savings, need), rel=1e-9)


def test_of_equal_losses_the_choice_with_the_least_ties():
  losses, savings = [np.zeros(4), np.array([0.0, 7.0, 7.0])], [np.arange(4.0), np.arange(3.0)]
  assert one_each(losses, savings, 2.0).tolist() == [2, 0]
  assert one_each(losses, savings, 2.0, ties=[np.arange(4.0)[::-1], np.zeros(3)]).tolist() == [3, 0]
  assert one_each(losses, savings, 9.0) is None


def test_of_two_parts_that_exclude_each_other_one_stays():
  losses, savings = [np.array([0.0, 1.0])] * 3, [np.array([0.0, 5.0])] * 3
  assert one_each(losses, savings, 10.0, apart=[(0, 1)])[2] == 1
  assert one_each(losses, savings, 15.0, apart=[(0, 1)]) is None


def test_a_choice_that_was_not_proved_is_taken_and_said(monkeypatch, capsys):
  cut_short = OptimizeResult(x=np.array([0.0, 1.0]), status=1, mip_gap=0.02)
  monkeypatch.setattr(module, 'milp', lambda *_, **__: cut_short)
  assert one_each([np.array([0.0, 1.0])], [np.array([0.0, 1.0])], 1.0).tolist() == [1]
  assert 'the best that was found is taken, at most 2 % from it' in capsys.readouterr().out
