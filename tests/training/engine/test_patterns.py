import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.patterns import Blocks, MByN, OneByN, Unstructured, pattern_of


def kernel(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_blocks_by_hand():
  weights = np.array([[9, 1, 1, 1, 5], [2, 2, 2, 2, 0], [0, 0, 0, 8, 1]], np.float32)
  # Mean magnitudes of 1x4 blocks: 3, 2, 2, and of the last column 5, 0, 1.
  np.testing.assert_array_equal(
    Blocks(1, 4).mask(weights, 5), [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
  )
  assert Blocks(1, 4).mask(weights, 9).sum() == 9
  assert Blocks(1, 4).mask(weights, 0).sum() == 1  # At least one block.


@settings(deadline=None, max_examples=50)
@given(
  st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
  st.integers(1, 4),
  st.integers(1, 4),
  st.floats(0, 1),
)
def test_blocks_are_whole_and_near_the_target(shape, rows, columns, share):
  weights = kernel(shape)
  target = round(share * weights.size)
  mask = Blocks(rows, columns).mask(weights, target).reshape(-1, shape[-1])
  for top in range(0, mask.shape[0], rows):
    for left in range(0, mask.shape[1], columns):
      block = mask[top : top + rows, left : left + columns]
      assert block.all() or not block.any()
  assert abs(int(mask.sum()) - target) <= rows * columns


def test_blocks_of_one_weight_are_unstructured():
  weights = kernel((3, 3, 8, 8))
  for keep in (1, 100, 576):
    np.testing.assert_array_equal(
      Blocks(1, 1).mask(weights, keep), Unstructured().mask(weights, keep)
    )


def test_m_by_n_agrees_with_tfmot():
  """tfmot groups the input channels of a kernel, as here."""
  import tensorflow as tf
  from tensorflow_model_optimization.python.core.sparsity.keras import pruning_utils

  weights = kernel((3, 3, 8, 6))
  prepared = pruning_utils.weights_rearrange(tf.constant(weights))
  theirs = pruning_utils.m_by_n_sparsity_mask_prepare(
    pruning_utils.generate_m_by_n_mask(prepared, (2, 4)), tf.TensorShape(weights.shape)
  )
  ours = MByN(2, 4).mask(weights, weights.size // 2)
  np.testing.assert_array_equal(ours, theirs.numpy() > 0)


def test_m_by_n_on_the_way():
  weights = kernel((1, 1, 8, 4))
  final = MByN(2, 4).mask(weights, 16)
  part = MByN(2, 4).mask(weights, 24)
  assert part.sum() == 24
  assert (part | ~final).all()
  assert MByN(2, 4).mask(weights, 1).sum() == 16  # Never more than the pattern has.


@pytest.mark.parametrize(
  ('pattern', 'shape', 'fits'),
  [
    (MByN(2, 4), (3, 3, 8, 8), True),
    (MByN(2, 4), (3, 3, 3, 8), False),
    (MByN(2, 4), (3, 3, 8, 1), False),
    (OneByN(1), (3, 3, 8, 7), True),
    (OneByN(1), (3, 3, 8, 1), False),
    (Blocks(1, 4), (3, 3, 8, 8), True),
    (Blocks(1, 4), (3, 3, 8, 1), False),
    (Unstructured(), (3, 3, 8, 1), True),
  ],
)
def test_fits(pattern, shape, fits):
  assert pattern.fits(shape) is fits


@pytest.mark.parametrize(
  ('pattern', 'name'),
  [
    (Unstructured(), 'unstructured'),
    (Blocks(1, 4), 'blocks 1x4'),
    (Blocks(16, 1), 'blocks 16x1'),
    (MByN(2, 4), '2 of 4'),
    (MByN(1, 16), '1 of 16'),
    (OneByN(1), '1x1 kernels'),
  ],
)
def test_names_there_and_back(pattern, name):
  assert pattern.name == name
  again = pattern_of(name)
  assert again == pattern
  assert type(again) is type(pattern)
  weights = kernel((3, 3, 16, 8))
  np.testing.assert_array_equal(again.mask(weights, 500), pattern.mask(weights, 500))


@pytest.mark.parametrize(
  'name', ['', 'blocks', 'blocks 1x0', 'blocks 1x4x4', '2:4', '0 of 4', '2 of 4 ', 'Unstructured']
)
def test_other_names_are_no_patterns(name):
  with pytest.raises(UserError, match=re.escape(f'{name!r} is no pattern of zeros')):
    pattern_of(name)


def test_single_kernels_of_the_least_norms_go():
  weights = kernel((3, 3, 4, 5))
  mask = OneByN(1).mask(weights, 9 * 7)
  norms = np.array([[np.abs(weights[:, :, i, o]).sum() for o in range(5)] for i in range(4)])
  least = np.sort(norms.ravel())[-7]
  for i in range(4):
    for o in range(5):
      assert (mask[:, :, i, o] == (norms[i, o] >= least)).all()


def test_1xn_blocks_are_whole_kernels():
  weights = kernel((3, 3, 5, 8))
  mask = OneByN(4).mask(weights, 9 * 4 * 6)
  assert mask.sum() == 9 * 4 * 6
  norms = {
    (i, o): np.abs(weights[:, :, i, 4 * o : 4 * o + 4]).sum() for i in range(5) for o in range(2)
  }
  kept = sorted(norms, key=norms.get)[-6:]
  for (i, o), block in (((i, o), mask[:, :, i, 4 * o : 4 * o + 4]) for i, o in norms):
    assert block.all() if (i, o) in kept else not block.any()
  assert OneByN(4).mask(weights, 0).sum() == 36  # At least one block.
  assert [OneByN(4).fits(shape) for shape in ((3, 3, 5, 8), (64, 10), (3, 3, 4, 1))] == [
    True,
    False,
    False,
  ]
  assert pattern_of(OneByN(4).name) == OneByN(4)
