"""What zeros and bits of kernels save in a packed file, and what they count for."""

import types

import numpy as np
import pytest
import tensorflow as tf

from secateurs.learners.search.building import BITS, ZEROS
from secateurs.learners.search.savings import LEFT_BY_TRAINING, SPARSER, weight_choices


def test_zeros_and_bits_save_what_the_file_has_less_and_count_for_what_training_leaves():
  kernel = tf.Variable(np.r_[np.ones(100), np.zeros(20)].reshape(3, 40))
  scene = types.SimpleNamespace(bits={'a': 4})
  losses = np.linspace(0.1, 1, len(SPARSER))
  curves = {
    ZEROS + 'a': [(0.0, 0.0), *zip(1 - np.array(SPARSER), losses)],
    BITS + 'a': [(0.0, 0.0), (1.0, 0.5)],
  }
  zeros, bits = weight_choices(scene, {'a': kernel}, curves)
  assert zeros.levels == (100, 85, 70, 55, 40, 25)
  assert zeros.losses[1:] == pytest.approx(LEFT_BY_TRAINING * losses)
  saved = np.diff(zeros.savings)  # Bytes of 15 weights of 4 bits and of what says where they are.
  np.testing.assert_allclose(saved, 15 * (4 + 2.2) / 8)
  assert bits.levels == (4, 3)
  assert bits.losses == (0.0, LEFT_BY_TRAINING * 0.5)
  assert bits.savings == (0.0, 100 / 8)
