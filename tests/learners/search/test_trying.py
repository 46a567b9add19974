from types import SimpleNamespace

import pytest

from secateurs.learners.search import telling
from secateurs.learners.search.choosing import Choice
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.state import Taken
from secateurs.learners.search.trying import choose_step

WHOLE = 1000.0


def step(target, *, less, cost='bytes'):
  """A step of a network whose parts save together less than each alone by a factor."""
  levels = tuple(range(40, -1, -1))
  choices = [
    Choice(
      name,
      'channels',
      levels,
      tuple(rate * n**1.5 for n in range(41)),
      tuple(8.0 * n for n in range(41)),
    )
    for name, rate in (('first', 1.0), ('second', 1.3), ('third', 0.7))
  ]
  scene = SimpleNamespace(rough=lambda taken: taken, bits={})

  def weigh(taken, bits):
    del bits
    return WHOLE - less * sum(8.0 * (one.before - one.after) for one in taken)

  return choose_step(scene, choices, SimpleNamespace(of=weigh, cost=cost), WHOLE, target)


@pytest.mark.parametrize('less', [0.999, 0.995, 0.97, 0.8, 1.02])
@pytest.mark.parametrize('target', [901.0, 703.0, 402.5])
def test_no_step_costs_more_than_it_may(less, target):
  taken, cost = step(target, less=less)
  assert target - 25 < cost <= target
  assert all(isinstance(one, Taken) for one in taken)


def test_a_file_over_its_limit_is_named():
  bytes_of, time_of = JsConfig(max_bytes='200kB'), JsConfig(max_latency='3ms')
  assert bytes_of.allowed == 200e3
  assert time_of.allowed == pytest.approx(3.03)
  assert telling.over_limit(bytes_of, 200e3) == telling.over_limit(JsConfig(), 1e9) == ''
  assert (
    telling.over_limit(bytes_of, 202e3) == 'left a file of 202.0 kB, over the limit of 200.0 kB'
  )
  assert 'within the limit' in telling.kept_to_limit(bytes_of, 199e3)
  assert '202.0 kB, over the limit of 200.0 kB' in telling.kept_to_limit(bytes_of, 202e3)
  assert telling.kept_to_limit(JsConfig(), 1.0) == ''
