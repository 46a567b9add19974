"""Well-known architectures: the fast subset of scripts/check_architectures.py, cost and groups."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.graph import ChannelGraph, slice_model

sys.path.insert(0, str(Path(__file__).parents[2] / 'scripts'))
import check_architectures

L = keras.layers


@pytest.mark.slow
@pytest.mark.parametrize('name', check_architectures.FAST)
def test_architecture_is_sliced_saved_converted_and_counted(name, tmp_path):
  keras.backend.clear_session()
  row = check_architectures.check(name, 64, tmp_path)
  assert row['reload_error'] is None
  for cell in row['ratios'].values():
    assert check_architectures.passes(cell), cell
    assert cell['sabotaged'] > 100 * cell['sliced']
  assert row['prunable_macs'] >= 0.9


def test_groups_of_mobilenet_v2():
  model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), alpha=0.35)
  graph = ChannelGraph(model)
  assert sum(group.prunable for group in graph.groups) == 25
  expanded = graph.group('block_4_expand')
  assert expanded.layers('follows') == [
    'block_4_expand_BN', 'block_4_depthwise', 'block_4_depthwise_BN'
  ]  # fmt: skip
  assert expanded.layers('consumes') == ['block_4_project']
  assert graph.group('block_1_project').layers('produces') == ['block_1_project', 'block_2_project']
  assert not graph.groups[-1].prunable


def chain(blocks):
  x = keras.Input((8, 8, 3))
  y = L.Conv2D(16, 3, padding='same')(x)
  for _ in range(blocks):
    z = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding='same')(y)))
    y = L.Add()([y, z])
  return keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y)))


@pytest.mark.slow
def test_the_cost_of_the_graph_grows_linearly():
  seconds = []
  for blocks in (20, 80):
    model = chain(blocks)
    rounds = []
    for _ in range(5):
      start = time.process_time()
      ChannelGraph(model)
      rounds.append(time.process_time() - start)
    seconds.append(min(rounds))
  assert seconds[1] < 8 * seconds[0]  # four times the layers


@pytest.mark.slow
def test_resnet50_is_walked_and_sliced_in_about_the_time_keras_needs_to_copy_it():
  model = keras.applications.ResNet50(weights=None)
  ours, copies = [], []
  for _ in range(4):
    start = time.process_time()
    graph = ChannelGraph(model)
    keep = {g.index: np.arange(g.size // 2) for g in graph.groups if g.prunable}
    slice_model(graph, keep)
    ours.append(time.process_time() - start)
    start = time.process_time()
    keras.models.clone_model(model)
    copies.append(time.process_time() - start)
  assert min(ours) < 1.5 * min(copies)
