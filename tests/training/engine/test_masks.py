import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.utils.training.engine.masks import Masks, MaskSet, nb_kept
from secateurs.utils.training.engine.patterns import top_k_mask


def slow_mask(scores, nb_keep):
  """Sorts by score, then by position: the oracle."""
  order = sorted(range(scores.size), key=lambda i: (-scores.flat[i], i))
  mask = np.zeros(scores.size, bool)
  mask[order[:nb_keep]] = True
  return mask.reshape(scores.shape)


def test_golden_with_ties():
  scores = np.array([[3.0, 1.0, 2.0], [2.0, 2.0, 0.0]])
  kept = {
    0: [[0, 0, 0], [0, 0, 0]],
    1: [[1, 0, 0], [0, 0, 0]],
    2: [[1, 0, 1], [0, 0, 0]],
    3: [[1, 0, 1], [1, 0, 0]],
    4: [[1, 0, 1], [1, 1, 0]],
    5: [[1, 1, 1], [1, 1, 0]],
    6: [[1, 1, 1], [1, 1, 1]],
  }
  for nb_keep, expected in kept.items():
    np.testing.assert_array_equal(top_k_mask(scores, nb_keep), np.array(expected, bool))


@given(
  st.lists(st.integers(0, 5), min_size=1, max_size=60),
  st.integers(0, 60),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_equals_sorting(values, nb_keep):
  scores = np.array(values, np.float32)
  nb_keep = min(nb_keep, scores.size)
  np.testing.assert_array_equal(top_k_mask(scores, nb_keep), slow_mask(scores, nb_keep))


@pytest.mark.parametrize(
  ('size', 'sparsity', 'expected'),
  [(10, 0.0, 10), (10, 1.0, 1), (10, 0.25, 7), (3, 0.5, 1), (4, 0.5, 2), (1, 0.9, 1), (8, 0.99, 1)],
)
def test_nb_kept(size, sparsity, expected):
  assert nb_kept(size, sparsity) == expected


def test_bad_requests():
  with pytest.raises(ValueError, match=r'nb_keep must be in \[0, 2\]'):
    top_k_mask(np.ones(2), 3)
  with pytest.raises(ValueError, match='NaN'):
    top_k_mask(np.array([1.0, np.nan]), 1)


@pytest.mark.parametrize('sparsity', [0.5, 0.75, 0.9])
def test_agrees_with_prune_low_magnitude(sparsity):
  """The mask of tfmot's wrapper after a call in training mode; without ties they agree."""
  import tensorflow_model_optimization as tfmot

  sparse = tfmot.sparsity.keras
  layer = keras.layers.Conv2D(8, 3)
  schedule = sparse.ConstantSparsity(sparsity, begin_step=0, frequency=1)
  pruned = sparse.prune_low_magnitude(layer, schedule, input_shape=(5, 5, 4))
  pruned.build((None, 5, 5, 4))
  pruned.pruning_step.assign(0)
  weights = layer.kernel.numpy()
  pruned(tf.zeros((1, 5, 5, 4)), training=True)
  theirs = layer.kernel.numpy() != 0
  np.testing.assert_array_equal(top_k_mask(np.abs(weights), int(theirs.sum())), theirs)
  assert abs(int(theirs.sum()) - nb_kept(weights.size, sparsity)) <= 1


def test_pruned_weights_come_back_from_their_backups():
  variable = tf.Variable([4.0, 3.0, 2.0, 1.0])
  masks = MaskSet([variable])
  masks.update([0.5])
  np.testing.assert_array_equal(variable.numpy(), [4, 3, 0, 0])
  variable.assign([4.0, 0.5, 9.0, 9.0])  # What the optimizer does, pruned weights drifting.
  masks.apply()
  np.testing.assert_array_equal(variable.numpy(), [4, 0.5, 0, 0])
  masks.update([0.5])  # 2.0 was pruned at 2.0, which is more than 0.5 today.
  np.testing.assert_array_equal(variable.numpy(), [4, 0, 2, 0])
  assert masks.sparsity() == 0.5


def test_what_may_never_stay_is_masked_from_the_start_and_takes_no_place():
  variable = tf.Variable([4.0, 0.0, 2.0, 0.0, 1.0, 0.5])
  masks = MaskSet([variable], allowed=[variable.numpy() != 0])
  variable.assign([4.0, 9.0, 2.0, 9.0, 1.0, 0.5])  # What the optimizer does.
  masks.apply()
  np.testing.assert_array_equal(variable.numpy(), [4, 0, 2, 0, 1, 0.5])
  variable.assign([4.0, 9.0, 2.0, 9.0, 1.0, 0.5])
  masks.update([0.5])
  np.testing.assert_array_equal(variable.numpy(), [4, 0, 2, 0, 1, 0])
  masks.reset()
  np.testing.assert_array_equal(masks.masks[0].numpy(), [1, 0, 1, 0, 1, 1])


def test_zero_sparsity_changes_no_bit():
  values = np.random.RandomState(0).randn(3, 3, 2, 5).astype(np.float32)
  variable = tf.Variable(values)
  masks = MaskSet([variable])
  masks.update([0.0])
  masks.apply()
  assert variable.numpy().tobytes() == values.tobytes()


def test_zeros_have_no_sign():
  variable = tf.Variable([-1.0, 2.0, -3.0])
  Masks([variable], [np.array([0, 0, 1], np.float32)]).apply()
  np.testing.assert_array_equal(variable.numpy(), [0, 0, -3])
  assert not np.signbit(variable.numpy()[:2]).any()


def test_given_masks():
  variable = tf.Variable([4.0, 3.0, 2.0, 1.0])
  masks = Masks([variable], [np.array([1, 0, 0, 1], np.float32)])
  masks.apply()
  np.testing.assert_array_equal(variable.numpy(), [4, 0, 0, 1])
  assert masks.sparsities() == [0.5]
  assert Masks([variable]).sparsity() == 0


def test_mixed_precision_variables():
  policy = keras.mixed_precision.Policy('mixed_bfloat16')
  layer = keras.layers.Dense(64, dtype=policy)
  layer.build((None, 32))
  masks = MaskSet([layer.kernel])
  masks.update([0.9])
  assert layer.kernel.dtype == tf.float32
  assert np.count_nonzero(layer.kernel.numpy()) == nb_kept(64 * 32, 0.9)
