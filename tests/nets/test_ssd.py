"""Single-shot detectors: built, cut, exported; default boxes fit their maps."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets import ssd
from secateurs.nets.datasets.box_augmentation import BoxAugmentation
from secateurs.nets.datasets.boxed_images import BoxedImages
from secateurs.nets.datasets.boxed_split import make_split, object_rows
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.detectors import DetectionConfig, builder, task_of
from secateurs.utils.deploy import TFLiteModel
from secateurs.utils.deploy.files.convert import tflite_bytes
from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  apply_plan,
  channel_scores,
  choose_channels,
  count,
  masked,
  plan_slice,
)
from secateurs.utils.graph.flat.l2_norm import L2Norm
from secateurs.utils.training.models.weights import named_weights

L = keras.layers


def half_of(model):
  """The network with half of the MACs, and the largest difference from the masked one."""
  graph = ChannelGraph(model)
  plan = plan_slice(graph, choose_channels(graph, channel_scores(graph, 'l1'), macs=0.5))
  small = apply_plan(plan)
  images = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype(np.float32)
  with masked(plan):
    expected = model(images, training=False).numpy()
  found = small(images, training=False).numpy()
  return small, np.abs(found - expected).max() / np.ptp(expected), images, found


@pytest.fixture(scope='module')
def small():
  detector = ssd.small_detector(ssd.SmallSsdConfig(ssd_width_mult=0.5), 96)
  keras.utils.set_random_seed(0)
  return detector, detector.build((96, 96, 3), 10)


def test_the_small_detector(small):
  detector, model = small
  assert model.output_shape == (None, detector.anchors.count, 15)
  full = ssd.small_detector(ssd.SmallSsdConfig(), 96).build((96, 96, 3), 10)
  assert 3e5 < full.count_params() < 7e5
  with pytest.raises(UserError, match='multiples of 32'):
    ssd.small_detector(ssd.SmallSsdConfig(), 100)
  with pytest.raises(UserError, match='at least 96'):
    ssd.small_detector(ssd.SmallSsdConfig(), 64)
  wide = ssd.small_detector(ssd.SmallSsdConfig(), 160)
  assert wide.build((160, 160, 3), 10).output_shape[1] == wide.anchors.count


def test_rows_of_the_output_are_the_default_boxes(small):
  """A map's cell shows in the rows of the default boxes at that cell alone."""
  _, model = small
  heads = keras.Model(model.input, [model.get_layer('boxes1').output, model.output])
  images = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
  head, rows = (x.numpy()[0] for x in heads(images))
  np.testing.assert_allclose(head[2, 5].reshape(4, 4), rows[(2 * 12 + 5) * 4 :][:4, :4])


def test_the_small_detector_is_cut(small):
  _, model = small
  slim, difference, _, _ = half_of(model)
  assert difference < 1e-4
  assert 0.4 < count(slim).macs / count(model).macs <= 0.5
  assert slim.output_shape == model.output_shape
  for layer in slim.layers:  # Heads lose inputs, no outputs.
    if layer.name.startswith(('boxes', 'classes')) and isinstance(layer, L.Conv2D):
      assert layer.filters == model.get_layer(layer.name).filters


LARGE = {
  'resnet50': ('ssd300_resnet50', 8732),
  'vgg16': ('ssd300_vgg16', 8732),
  'mobilenet_v2': ('ssdlite_mobilenet_v2', 2278),
}


@pytest.mark.slow
@pytest.mark.parametrize('backbone', LARGE)
def test_large_detectors_are_built_cut_and_exported(backbone, tmp_path):
  """A quarter of the width, so that it does not take long."""
  config = ssd.SsdConfig(ssd_backbone=backbone, ssd_width_mult=0.25)
  detector = ssd.large_detector(config, 'voc')
  name, nb_boxes = LARGE[backbone]
  assert detector.name == f'{name}_0.25'
  model = detector.build((300, 300, 3), 20)
  assert model.output_shape == (None, nb_boxes, 25) == (None, detector.anchors.count, 25)
  slim, difference, images, expected = half_of(model)
  assert difference < 1e-4
  assert 0.4 < count(slim).macs / count(model).macs <= 0.5
  (tmp_path / 'slim.tflite').write_bytes(tflite_bytes(slim))
  found = TFLiteModel(tmp_path / 'slim.tflite').predict(images).reshape(expected.shape)
  assert np.abs(found - expected).max() < 1e-3 * np.ptp(expected)


def test_l2_norm_is_cut_exactly_and_survives_files(tmp_path):
  inputs = keras.Input((6, 6, 3))
  x = L.Conv2D(8, 3, activation='relu', name='first')(inputs)
  x = L2Norm(name='norm')(x)
  model = keras.Model(inputs, L.Conv2D(2, 1, name='last')(x))
  model.get_layer('norm').gamma.assign(np.arange(1.0, 9))
  images = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
  lengths = np.linalg.norm(keras.Model(inputs, x)(images).numpy() / np.arange(1.0, 9), axis=-1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-4)
  plan = plan_slice(ChannelGraph(model), {'first': [0, 2, 3, 7]})
  slim = apply_plan(plan)
  np.testing.assert_array_equal(slim.get_layer('norm').gamma, [1, 3, 4, 8])
  with masked(plan):
    expected = model(images)
  np.testing.assert_allclose(slim(images), expected, rtol=1e-4, atol=1e-5)
  slim.save(tmp_path / 'slim.keras')
  again = keras.models.load_model(tmp_path / 'slim.keras')
  np.testing.assert_allclose(again(images), slim(images), rtol=1e-6)


def test_backbones_take_a_classifiers_weights(tmp_path):
  rows = [object_rows(np.zeros((0, 4)), np.zeros(0), 96**2)] * 2
  split = make_split(np.zeros((2, 96, 96, 3), np.uint8), rows, np.full(2, 96**2))
  classes = list('0123456789')
  data = BoxedImages('none', 96, classes, split, split, DataConfig(), BoxAugmentation())
  detector = ssd.small_detector(ssd.SmallSsdConfig(ssd_width_mult=0.25), 96)
  donor = builder(detector, data)()
  name = 'stage1_conv1/kernel'
  value = np.full(named_weights(donor)[name].shape, 0.5, np.float32)
  np.savez(tmp_path / 'some.npz', **{name: value, 'logits/kernel': np.zeros((3, 3))})
  model = builder(detector, data, str(tmp_path / 'some.npz'))()
  np.testing.assert_array_equal(named_weights(model)[name], value)
  np.savez(tmp_path / 'none.npz', other=np.zeros(3))
  with pytest.raises(UserError, match=r'has no weight of ssd_small_0\.25'):
    builder(detector, data, str(tmp_path / 'none.npz'))()
  wide = ssd.small_detector(ssd.SmallSsdConfig(), 160)
  with pytest.raises(UserError, match='takes images of 160x160'):
    builder(wide, data)
  assert task_of(detector, data, DetectionConfig()).metric == 'coco'
  assert task_of(detector, data, DetectionConfig(detection_metric='voc2012')).metric == 'voc2012'
