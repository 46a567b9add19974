"""A transformer and a U-Net as tutorials of Keras 3 build them: in, cut, and out again."""

import keras as keras3
import numpy as np
import pytest

from secateurs.utils.graph import (
  ChannelGraph,
  apply_plan,
  channel_scores,
  choose_channels,
  count,
  masked,
  plan_slice,
)
from secateurs.utils.keras3 import to_keras3, to_tf_keras
from secateurs.utils.keras3.proof import difference
from secateurs.utils.random_inputs import outputs

L, ops = keras3.layers, keras3.ops


def transformer():
  """Patches, a learned position for each, pre-norm blocks, a head on the mean token."""
  image = keras3.Input((16, 16, 3))
  x = L.RandomFlip('horizontal')(L.Rescaling(1 / 255.0)(image))
  x = ops.image.extract_patches(x, 4)
  x = L.Dense(24, name='patches')(ops.reshape(x, (-1, 16, 48)))
  numbers = ops.cumsum(ops.ones_like(x[:, :, 0], dtype='int32'), 1) - 1
  x = x + L.Embedding(16, 24, name='positions')(numbers)
  for block in range(2):
    y = L.LayerNormalization(epsilon=1e-6)(x)
    x = L.Add()([L.MultiHeadAttention(3, 8, dropout=0.1, name=f'attention{block}')(y, y), x])
    y = L.Dense(48, name=f'wide{block}')(L.LayerNormalization(epsilon=1e-6)(x))
    x = L.Add()([L.Dense(24, name=f'narrow{block}')(L.Dropout(0.1)(ops.gelu(y))), x])
  x = ops.mean(L.LayerNormalization()(x), axis=1)
  return keras3.Model(image, L.Dense(5, name='classes')(x), name='transformer')


def u_net():
  """Separable convolutions with residuals down, transposed ones up, skips between."""
  image = keras3.Input((16, 16, 3))
  x = L.Activation('relu')(L.BatchNormalization()(L.Conv2D(8, 3, 2, 'same', name='stem')(image)))
  skips, before = [x], x
  for width in (12, 16):
    x = L.SeparableConv2D(width, 3, padding='same', name=f'down{width}')(L.ReLU()(x))
    x = L.MaxPooling2D(3, 2, 'same')(L.BatchNormalization()(x))
    x = before = L.Add()([x, L.Conv2D(width, 1, 2, 'same')(before)])
    skips.append(x)
  for width, skip in zip((12, 8), skips[-2::-1]):
    x = L.Conv2DTranspose(width, 3, padding='same', name=f'up{width}')(L.ReLU()(x))
    x = L.UpSampling2D(2)(L.BatchNormalization()(x))
    x = L.Concatenate()([x, skip])
  x = L.Conv2DTranspose(8, 3, 2, 'same', activation='leaky_relu', name='last')(x)
  return keras3.Model(image, L.Conv2D(4, 1, name='classes')(x), name='u_net')


@pytest.mark.parametrize(('network', 'left'), [(transformer, 0.8), (u_net, 0.6)])
def test_networks_of_tutorials(network, left):
  keras3.utils.set_random_seed(0)
  given = network()
  model = to_tf_keras(given)
  graph = ChannelGraph(model)
  keep = choose_channels(graph, channel_scores(graph, 'l1'), ratio=0.5)
  plan = plan_slice(graph, keep)
  small = apply_plan(plan)
  assert count(small).macs < left * count(model).macs
  images = [np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)]
  with masked(plan):
    expected = outputs(model, images)
  back = to_keras3(small)
  for one in (small, back):
    assert difference(expected[0], outputs(one, images)[0]) < 1e-5
  assert back.get_layer('classes').kernel.shape[-1] == given.get_layer('classes').kernel.shape[-1]


def test_padded_tokens():
  keras3.utils.set_random_seed(0)
  tokens = keras3.Input((6,), dtype='int32')
  x = L.Embedding(10, 8, mask_zero=True)(tokens)
  x = L.Bidirectional(L.LSTM(8, return_sequences=True), name='both')(x)
  x = L.TimeDistributed(L.Dense(8, 'relu'))(x)
  given = keras3.Model(tokens, L.Dense(3)(L.GRU(8, name='last')(x)))
  graph = ChannelGraph(to_tf_keras(given))
  keep = choose_channels(graph, channel_scores(graph, 'l1'), ratio=0.75, scope='global')
  plan = plan_slice(graph, keep)
  small = apply_plan(plan)
  assert small.get_layer('both').forward_layer.units < 8 > small.get_layer('last').units
  numbers = [np.array([[1, 2, 3, 0, 0, 0], [0, 4, 0, 5, 6, 7]], np.int32)]
  with masked(plan):
    expected = outputs(graph.model, numbers)
  for one in (small, to_keras3(small)):
    assert difference(expected[0], outputs(one, numbers)[0]) < 1e-5
