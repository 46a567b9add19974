import pytest

from secateurs.learners.search import stepping
from secateurs.learners.search.quantities import BYTES, MILLISECONDS, SECONDS, quantity
from secateurs.learners.search.stepping import Stand
from secateurs.utils.errors import UserError

ENDLESS = {'limit': None, 'most_tries': 99, 'most_seconds': 1e9}


def search(best, *, first=0.7, start=1.0, **limits):
  """A search in which every network of at least a cost is accepted."""
  stand, costs = Stand(start, first, 0, 0.0), []
  while stepping.over(stand, **{**ENDLESS, **limits}) is None:
    cost = stepping.target(stand, limits.get('limit'))
    costs.append(cost)
    accepted = cost >= best
    stand = Stand(
      cost if accepted else stand.cost,
      stepping.next_step(stand.step, accepted),
      stand.nb_tries + 1,
      stand.seconds + 10,
    )
  return stand, costs


@pytest.mark.parametrize('best', [0.8, 0.5, 0.123, 0.03])
def test_the_search_ends_within_a_few_percent_of_the_best(best):
  stand, costs = search(best)
  assert best <= stand.cost < best / stepping.SMALLEST_STEP / 0.96
  assert len(costs) < 20


def test_a_limit_is_met_and_not_passed():
  stand, costs = search(0.0, limit=0.3)
  assert stand.cost == costs[-1] == 0.3
  assert stepping.over(stand, **{**ENDLESS, 'limit': 0.3}) == 'The limit is met.'


@pytest.mark.parametrize('limit', [0.98, 0.7, 0.5, 0.3, 0.02])
def test_tries_to_a_limit_are_known_in_number(limit):
  assert stepping.nb_steps_to(limit, 1.0, 0.7) == len(search(0.0, limit=limit)[1])


def test_a_file_that_drifts_aims_below_its_limit():
  stand = Stand(1.0, 0.7, 0, 0.0)
  assert stepping.target(stand, 0.9) == 0.9
  assert stepping.target(stand, 0.9, drifts=True) == pytest.approx(0.891)
  assert stepping.target(stand, 0.1, drifts=True) == 0.7


def test_tries_and_time_end_it():
  assert len(search(0.0, most_tries=3)[1]) == 3
  assert len(search(0.0, most_seconds=25)[1]) == 3
  stand = Stand(1.0, 0.7, 2, 20.0)
  assert stepping.over(stand, **{**ENDLESS, 'most_seconds': 25}, last_seconds=[10.0]) is not None


@pytest.mark.parametrize(
  ('text', 'units', 'number'),
  [
    ('200kB', BYTES, 2e5),
    ('64 KiB', BYTES, 65536),
    ('3ms', MILLISECONDS, 3),
    ('1.5h', SECONDS, 5400),
  ],
)
def test_quantities(text, units, number):
  assert quantity('flag', text, units) == number


@pytest.mark.parametrize('text', ['', 'small', '-3kB', '0', '3 parsecs'])
def test_what_is_no_quantity_is_refused(text):
  with pytest.raises(UserError, match='--js_max_bytes takes a number'):
    quantity('js_max_bytes', text, BYTES)
