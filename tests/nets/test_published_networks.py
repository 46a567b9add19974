"""Networks of the papers: published counts, weights of tf_keras.applications, and cuts."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets import applications, densenet, resnet, vgg
from secateurs.nets.xception import xception
from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  channel_scores,
  choose_channels,
  count,
  masked,
  plan_slice,
  slice_model,
)
from secateurs.utils.training.models.weights import named_weights


@pytest.mark.parametrize(
  ('build', 'macs', 'params'),
  [
    # He et al. 2016b and Liu et al. 2017 (Network Slimming): 1.70 M, 2.5e8 multiply-adds.
    (resnet.preactivation_resnet, 247_646_720, 1_703_258),
    # Lin et al. 2020 (HRank), table 3: 0.85 M, 125.49 M.
    (lambda: resnet.cifar_resnet(56, shortcut='zero'), 125_485_696, 853_018),
    # Liu et al. 2017, tables 1: 1.02 M; 20.04 M, 7.97e8 / 2.
    (densenet.cifar_densenet, 264_812_928, 1_019_722),
    (vgg.cifar_vgg19, 398_136_320, 20_035_018),
    # Chollet 2017, table 3: 22,855,952.
    (xception, 8_357_403_496, 22_855_952),
  ],
)
def test_published_counts(build, macs, params):
  model = build()
  assert count(model).macs == macs
  assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == params


def test_shortcuts_of_zeros_have_no_weights():
  network = resnet.cifar_network(resnet.ResNetConfig(resnet_shortcut='zero'))
  assert network.name == 'resnet20_zero'
  model = network.build((32, 32, 3), 10)
  assert count(model).macs == 40_551_040
  assert not [layer.name for layer in model.layers if 'shortcut_conv' in layer.name]


def test_unknown_depths():
  with pytest.raises(UserError, match='4 more than a multiple of 3, such as 40, but 41'):
    densenet.cifar_densenet(41)
  with pytest.raises(UserError, match='--resnet_shortcut zero was given with --resnet_size 164'):
    resnet.cifar_network(resnet.ResNetConfig(resnet_size=164, resnet_shortcut='zero'))


def test_xception_takes_the_weights_of_applications():
  rng = np.random.default_rng(0)
  source = keras.applications.Xception(
    weights=None, input_shape=(71, 71, 3), classes=5, classifier_activation=None
  )
  for weight in source.weights:
    if 'moving_variance' in weight.name:
      weight.assign(rng.uniform(0.5, 1.5, weight.shape))
  given = {name: value.numpy() for name, value in named_weights(source).items()}
  model = xception((71, 71, 3), 5)
  found, own = applications.xception_weights(given), named_weights(model)
  assert set(found) == set(own)
  for name, value in own.items():
    value.assign(found[name])
  images = rng.normal(size=(1, 71, 71, 3)).astype(np.float32)
  np.testing.assert_allclose(model(images), source(images), atol=1e-5)
  other = {'conv/kernel': np.ones(1)}
  assert applications.xception_weights(other) is other


@pytest.mark.parametrize(
  'build',
  [
    lambda: resnet.cifar_resnet(20, (8, 8, 3), shortcut='zero'),
    lambda: densenet.cifar_densenet(10, (8, 8, 3)),
    lambda: xception((71, 71, 3), 5, width_mult=0.05),
  ],
  ids=['zero shortcut', 'densenet', 'xception'],
)
def test_half_of_the_channels_go(build):
  model = build()
  graph = ChannelGraph(model)
  keep = choose_channels(graph, channel_scores(graph), ratio=0.5)
  small, plan = slice_model(graph, keep), plan_slice(graph, keep)
  assert count(small).macs < 0.6 * count(model).macs
  images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
  with masked(plan):
    expected = model(images).numpy()
  np.testing.assert_allclose(small(images), expected, atol=1e-5)
