import itertools

import numpy as np
import pytest
import tensorflow as tf

from secateurs.utils.training.layerwise.gradient_choice import channel_norms, next_mask

RNG = np.random.default_rng(0)


def test_norms_of_one_convolution():
  gradient = RNG.normal(size=(3, 3, 5, 7)).astype(np.float32)
  found = channel_norms([tf.constant(gradient)], [np.arange(5)], 5)
  expected = [np.linalg.norm(gradient[:, :, k].ravel()) for k in range(5)]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_norms_of_several_readers_add_up_and_rows_of_a_channel_are_one_norm():
  conv = RNG.normal(size=(1, 1, 4, 2)).astype(np.float32)
  dense = RNG.normal(size=(6, 3)).astype(np.float32)
  elements = [np.array([-1, 0, 1, 2]), np.array([0, 1, 2, 0, 1, 2])]
  found = channel_norms([tf.constant(conv), tf.constant(dense)], elements, 3)
  expected = [
    np.linalg.norm(conv[0, 0, k + 1]) + np.linalg.norm(dense[[k, k + 3]]) for k in range(3)
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
  ('greedy', 'mask', 'change', 'expected'),
  [
    ('remove', '1111', 1, '1101'),
    ('remove', '1111', 2, '1001'),
    ('remove', '1011', 1, '1001'),
    ('add', '0000', 1, '0001'),
    ('add', '0001', 1, '1001'),
    ('add', '0000', 3, '1101'),
  ],
)
def test_next_mask(greedy, mask, change, expected):
  scores = np.array([2.0, 1.0, 1.0, 3.0])  # A tie: the later of two equal channels goes first.
  before = np.array([c == '1' for c in mask])
  kept = before.copy()
  found = next_mask(scores, before, change, greedy)
  assert ''.join('01'[int(one)] for one in found) == expected
  np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize('greedy', ['remove', 'add'])
def test_steps_of_one_give_what_one_step_of_many_gives_for_fixed_scores(greedy):
  for size, count in itertools.product((1, 5, 9), (1, 3)):
    scores = RNG.integers(0, 4, size).astype(float)
    start = np.full(size, greedy == 'remove')
    one_by_one = start
    for _ in range(min(count, size)):
      one_by_one = next_mask(scores, one_by_one, 1, greedy)
    found = next_mask(scores, start, min(count, size), greedy)
    np.testing.assert_array_equal(found, one_by_one)
    assert abs(int(found.sum()) - int(start.sum())) == min(count, size)
