"""Well-known architectures: one run of scripts/check_architectures.py, groups of MobileNetV2."""

import sys
from pathlib import Path

import pytest
import tf_keras as keras
from alike import alike

from secateurs.utils.graph import ChannelGraph

sys.path.insert(0, str(Path(__file__).parents[2] / 'scripts'))
import check_architectures

L = keras.layers


@pytest.mark.slow
@pytest.mark.parametrize('name', ['MobileNet', *alike('EfficientNetB0')])
def test_an_architecture_is_sliced_saved_converted_and_counted(name, tmp_path):
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
