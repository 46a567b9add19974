"""Operators and delegate partitions of exported files."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.files.convert import tflite_bytes
from secateurs.utils.deploy.files.export import export_model
from secateurs.utils.deploy.runtime.operators import operators_of, partition_note
from secateurs.utils.graph import slice_model


def shuffled(first):
  """Halves of a split, equal or not, that meet again."""
  image = keras.Input((8, 8, 8))
  x = keras.layers.Conv2D(16, 1, name='first')(image)
  left, right = tf.split(x, [first, 16 - first], axis=-1) if first != 8 else tf.split(x, 2, axis=-1)
  x = tf.concat([keras.layers.Conv2D(8, 3, padding='same')(left), right], -1)
  return keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


def test_operators_and_partitions_are_counted(tmp_path):
  blocks = []
  for first in (8, 6):
    file = export_model(shuffled(first), tmp_path / f'm{first}').tflite
    found = operators_of(file.path)
    assert found.kinds['CONV_2D'] == 2
    blocks.append({'operators': found.kinds, 'delegate_partitions': found.partitions})
  assert 'SPLIT' in blocks[0]['operators']
  assert 'SPLIT_V' in blocks[1]['operators']
  assert blocks[1]['delegate_partitions'] > blocks[0]['delegate_partitions'] >= 1
  note = partition_note(*blocks)
  assert 'new operators: SPLIT_V' in note
  assert partition_note(blocks[1], blocks[0]) is None
  assert partition_note({}, blocks[1]) is None
  assert np.isfinite(file.parity.max_rel_diff)


@pytest.mark.parametrize(('kept', 'kind'), [((4, 4), 'SPLIT'), ((5, 3), 'SPLIT_V')])
def test_equal_parts_keep_the_fast_operator(kept, kind, tmp_path):
  model = shuffled(8)
  left, right = kept
  small = slice_model(model, {'first': [*range(left), *range(8, 8 + right)]})
  (tmp_path / 'small.tflite').write_bytes(tflite_bytes(small))
  kinds = operators_of(tmp_path / 'small.tflite').kinds
  assert {name for name in kinds if name.startswith('SPLIT')} == {kind}
