"""Which kernels of which layers a pattern of zeros fits."""

import pytest
import tf_keras as keras

from secateurs.learners.weights.chosen_layers import prunable_kernels
from secateurs.learners.weights.configs import WsConfig
from secateurs.nets.model_helper import ModelHelper


@pytest.mark.parametrize(
  ('options', 'among'),
  [
    ({}, {'table', 'attention', 'depth', 'transposed', 'conv', 'pointwise', 'made', 'logits'}),
    ({'block_size': '1x4'}, {'table', 'attention', 'conv', 'pointwise', 'made', 'logits'}),
    ({'m_by_n': '2,4'}, {'attention', 'conv', 'pointwise', 'made', 'logits'}),
    ({'pattern': '1x4'}, {'attention', 'conv', 'pointwise', 'made', 'logits'}),
  ],
)
def test_patterns_fit_kernels_of_inputs_and_outputs(make, helper, options, among):
  """Of transposed, depthwise, attention's and embeddings' kernels other axes are inputs and outputs."""
  layers = keras.layers
  inputs = keras.Input((8,), dtype='int32')
  x = layers.Embedding(16, 8, name='table')(inputs)
  x = layers.MultiHeadAttention(4, 4, name='attention')(x, x)
  x = layers.Reshape((2, 4, 8))(x)
  x = layers.DepthwiseConv2D(2, depth_multiplier=2, padding='same', name='depth')(x)
  x = layers.Conv2DTranspose(8, 2, name='transposed')(x)
  x = layers.Conv2D(8, 2, groups=2, name='conv')(x)
  x = layers.SeparableConv2D(8, 2, padding='same', name='pointwise')(x)
  x = layers.Reshape((-1, 8))(x)
  x = layers.EinsumDense('abc,cd->abd', (None, 8), name='made')(x)
  model = keras.Model(inputs, layers.Dense(8, name='logits')(layers.Flatten()(x)))
  own = ModelHelper('many', lambda: model, helper.dataset, helper.recipe)
  settings = make('weight-sparse', helper=own).settings
  found = prunable_kernels(settings, WsConfig(dense_share=0.0, **options), model)
  assert {name.split('/')[0] for name in found} == among
  if among.isdisjoint({'table', 'transposed'}):
    # Neither a query's kernel [inputs, heads, size] nor a depthwise one.
    assert {'attention', 'pointwise'}.isdisjoint(found)
    assert {'attention/attention_output/kernel', 'pointwise/pointwise_kernel'} <= set(found)
