"""The networks for ILSVRC-12, and CIFAR's MobileNets and VGG: counts, options, weights of others."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.nets import applications
from secateurs.nets.mobilenet import MobileNetConfig, mobilenet_v1, mobilenet_v2
from secateurs.nets.mobilenet import cifar_network as cifar_mobilenet
from secateurs.nets.mobilenet import imagenet_network as imagenet_mobilenet
from secateurs.nets.resnet import ImagenetResNetConfig, imagenet_network, imagenet_resnet
from secateurs.nets.vgg import CifarVggConfig, vgg16
from secateurs.nets.vgg import cifar_network as cifar_vgg
from secateurs.utils.errors import UserError
from secateurs.utils.graph import count
from secateurs.utils.training.models.weight_files import read_weights
from secateurs.utils.training.models.weights import assign_weights, named_weights

L = keras.layers
BUILDERS = {
  'resnet18': functools.partial(imagenet_resnet, 18),
  'resnet34': functools.partial(imagenet_resnet, 34),
  'resnet50': functools.partial(imagenet_resnet, 50),
  'resnet50_v1': functools.partial(imagenet_resnet, 50, version='1'),
  'mobilenet_v1': mobilenet_v1,
  'mobilenet_v2': mobilenet_v2,
}


@functools.cache
def built(name):
  """The network at its default size; tests share it and must not change it."""
  return BUILDERS[name]()


@pytest.mark.parametrize(
  ('name', 'macs', 'params'),
  [
    # Params of the papers' code without moving statistics: torchvision's 11,689,512 and so on.
    ('resnet18', 1_814_073_344, 11_689_512),
    ('resnet34', 3_663_761_408, 21_797_672),
    ('resnet50', 4_089_184_256, 25_557_032),
    ('resnet50_v1', 3_857_973_248, 25_557_032),
    ('mobilenet_v1', 568_740_352, 4_231_976),
    ('mobilenet_v2', 300_774_272, 3_504_872),
  ],
)
def test_published_counts(name, macs, params):
  model = built(name)
  assert count(model).macs == macs
  assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == params
  assert model.output_shape == (None, 1000)


def test_vgg_on_cifar_has_the_counts_of_its_paper():
  # Li et al. 2017, tables 1 and 2: 3.13e8 multiply-adds, 1.5e7 parameters.
  counted = count(cifar_vgg(CifarVggConfig()).build((32, 32, 3), 10))
  assert round(counted.macs / 1e6) == 313
  assert round(counted.params / 1e6) == 15


def test_cifar_mobilenets_keep_small_images_large():
  for version, side in ((1, 2), (2, 4)):
    network = cifar_mobilenet(MobileNetConfig(mobilenet_version=version))
    model = network.build((32, 32, 3), 10)
    assert model.get_layer('pool').input.shape[1:3] == (side, side)
    assert model.output_shape == (None, 10)


def test_names():
  assert imagenet_network(ImagenetResNetConfig(resnet_size=34)).name == 'resnet34'
  assert imagenet_network(ImagenetResNetConfig(resnet_version='1')).name == 'resnet50_v1'
  config = MobileNetConfig(mobilenet_version=2, mobilenet_depth_mult=0.5)
  assert imagenet_mobilenet(config).name == 'mobilenet_v2_0.5'
  with pytest.raises(UserError, match='--resnet_size takes one of 18, 34, 50, 101 for ILSVRC-12'):
    imagenet_resnet(20)


def test_strides_of_bottlenecks():
  for name, strided in (('resnet50_v1', 'conv1'), ('resnet50', 'conv2')):
    model = built(name)
    for number in (1, 2):
      layer = model.get_layer(f'stage3_block1_conv{number}')
      assert layer.strides == ((2, 2) if layer.name.endswith(strided) else (1, 1))
    assert model.get_layer('stage2_block1_shortcut_conv').strides == (2, 2)


def test_widths_of_depth_multipliers():
  assert mobilenet_v1(depth_mult=0.25).get_layer('block13_pointwise_conv').filters == 256
  small = mobilenet_v2(depth_mult=0.35)
  expected = keras.applications.MobileNetV2(alpha=0.35, weights=None)
  assert count(small).macs == count(expected).macs
  assert small.get_layer('head_conv').filters == 1280


@pytest.mark.parametrize('build', [mobilenet_v1, mobilenet_v2])
def test_symmetric_mobilenets_satisfy_the_xnnpack_policy(build):
  from tensorflow_model_optimization.sparsity.keras import PruneForLatencyOnXNNPack

  policy = PruneForLatencyOnXNNPack()
  policy.ensure_model_supports_pruning(build((96, 96, 3), 10, symmetric=True))
  with pytest.raises(ValueError, match='Could not find `Conv2D 3x3`'):
    policy.ensure_model_supports_pruning(build((96, 96, 3), 10))


def randomized(model, seed=0):
  """The model with random weights, normalisation included, of a size that keeps signals alive."""
  rng = np.random.default_rng(seed)
  for weight in model.weights:
    kind = weight.name.split('/')[-1].split(':')[0]
    low, high = {'gamma': (0.7, 1.3), 'moving_variance': (0.5, 1.5)}.get(kind, (-0.3, 0.3))
    if 'kernel' in kind:
      fan_in = np.prod(weight.shape[:2] if 'depthwise' in kind else weight.shape[:-1])
      weight.assign(rng.normal(0, np.sqrt(2 / fan_in), weight.shape))
    else:
      weight.assign(rng.uniform(low, high, weight.shape))
  return model


@functools.cache
def theirs(name):
  options = {'weights': None, 'classifier_activation': None, 'classes': 20}
  sizes = {'MobileNet': 64, 'VGG16': 32}
  size = sizes.get(name, 64)
  builder = getattr(keras.applications, name)
  return randomized(builder(input_shape=(size, size, 3), **options))


CASES = {
  'ResNet50': lambda s: (imagenet_resnet(50, s, 20, version='1'), applications.resnet_weights),
  'MobileNet': lambda s: (mobilenet_v1(s, 20), applications.mobilenet_v1_weights),
  'MobileNetV2': lambda s: (mobilenet_v2(s, 20), applications.mobilenet_v2_weights),
  'VGG16': lambda s: (
    vgg16(s, 20, normed=True),
    lambda w: applications.vgg_weights(w, normed=True),
  ),
  'VGG16 plain': lambda s: (
    vgg16(s, 20, normed=False),
    lambda w: applications.vgg_weights(w, normed=False),
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_weights_of_keras_applications_give_equal_outputs(name, tmp_path):
  other = theirs(name.split()[0])
  path = tmp_path / 'weights.h5'
  other.save_weights(path)
  model, translate = CASES[name](other.input_shape[1:])
  assign_weights(named_weights(model), translate(read_weights(path)), name)
  images = tf.random.stateless_normal([4, *other.input_shape[1:]], [1, 2])
  expected, found = other(images, training=False), model(images, training=False)
  assert float(tf.math.reduce_std(expected)) > 1e-3
  np.testing.assert_allclose(found, expected, atol=2e-4 * float(tf.reduce_max(tf.abs(expected))))


def test_own_weights_stay_as_they_are():
  weights = {'stem_conv/kernel': np.zeros(1)}
  for translate in (
    applications.resnet_weights,
    applications.mobilenet_v1_weights,
    applications.mobilenet_v2_weights,
    lambda w: applications.vgg_weights(w, normed=True),
  ):
    assert translate(weights) is weights
