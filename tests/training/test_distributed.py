import pytest

from secateurs.utils.training.distributed import buckets


@pytest.mark.parametrize(
  ('sizes', 'expected'),
  [
    ([], []),
    ([3, 3, 4], [[2, 1, 0]]),
    ([8, 8, 8], [[2], [1], [0]]),  # Two would be above the limit.
    ([1, 30, 1, 2], [[3, 2], [1], [0]]),  # What is above the limit goes by itself.
    ([5, 5, 10], [[2], [1, 0]]),
  ],
)
def test_tensors_travel_in_buckets_from_the_last_to_the_first(sizes, expected):
  assert buckets(sizes, limit=10) == expected
