"""Blocks of published networks, cut to half of their MACs: sliced, saved, reloaded, in TFLite."""

import numpy as np
import pytest
import tensorflow as tf
from alike import alike
from graph_helpers import check_slice, difference, outputs, random_inputs, randomize
from graph_networks import PUBLISHED

from secateurs.utils.graph import (
  ChannelGraph,
  channel_scores,
  choose_channels,
  count,
  load_model,
  save_model,
)


def halved(name, share=0.5, **options):
  model = randomize(PUBLISHED[name]())
  graph = ChannelGraph(model, **options)
  small = check_slice(model, choose_channels(graph, channel_scores(graph), macs=share), graph=graph)
  assert count(small).macs <= share * count(model).macs
  return small


def in_tflite(model, images, like):
  """Outputs of the converted model, in the order of `like`, which have different shapes."""
  function = tf.function(
    lambda *given: tf.nest.flatten(model(list(given) if len(given) > 1 else given[0]))
  )
  specs = [tf.TensorSpec((1, *t.shape[1:]), t.dtype) for t in model.inputs]
  concrete = function.get_concrete_function(*specs)
  converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
  content = converter.convert()
  runner = tf.lite.Interpreter(model_content=content)
  runner.allocate_tensors()
  for detail, image in zip(runner.get_input_details(), images, strict=True):
    runner.set_tensor(detail['index'], image[:1])
  runner.invoke()
  found = [runner.get_tensor(one['index']) for one in runner.get_output_details()]
  shapes = [one.shape for one in like]
  return sorted(found, key=lambda one: shapes.index(one.shape))


FAST = ('vit_of_einsums', 'swin', 'ssd', 'stacked_lstm')


@pytest.mark.parametrize(
  'name', [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in PUBLISHED]
)
def test_half_of_the_macs_go(name, tmp_path):
  """Those of the fast lane leave TFLite to the slow test."""
  small = halved(name)
  images = random_inputs(small)
  again = load_model(save_model(small, tmp_path / 'small.keras'))
  assert difference(outputs(small, images), outputs(again, images)) < 1e-5
  assert count(again).macs == count(small).macs
  assert any(group.prunable for group in ChannelGraph(again).groups)
  if name not in FAST:
    same_in_tflite(small)


def same_in_tflite(small):
  images = [one[:1] for one in random_inputs(small)]
  expected = outputs(small, images)
  assert difference(expected, in_tflite(small, images, expected)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize('name', [*FAST[:3], *alike(*FAST[3:])])
def test_the_others_are_the_same_in_tflite(name):
  same_in_tflite(halved(name))


@pytest.mark.parametrize(
  'name',
  ['convnext', *(pytest.param(n, marks=pytest.mark.slow) for n in ('vit', 'swin', 'conformer'))],
)
def test_streams_get_narrower_where_norms_are_cut(name):
  small = halved(name, 0.3, norms='cut')
  assert np.isfinite(small.count_params())
