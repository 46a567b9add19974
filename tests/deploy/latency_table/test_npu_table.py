import pytest
import tf_keras as keras

from secateurs.utils.deploy.latency_table.npu import make_npu_table
from secateurs.utils.deploy.latency_table.table import LatencyTable, read_table
from secateurs.utils.graph import ChannelGraph

pytest.importorskip('ethosu', reason='ethos-u-vela is not installed')


@pytest.fixture
def graph():
  keras.utils.set_random_seed(0)
  inputs = keras.Input((8, 8, 3))
  x = keras.layers.Conv2D(16, 3, padding='same', activation='relu')(inputs)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return ChannelGraph(keras.Model(inputs, keras.layers.Dense(4)(x)))


def test_a_table_holds_what_vela_estimates(graph, tmp_path):
  path, said = tmp_path / 'npu.json', []
  table = LatencyTable('ethos-u55-128', 'ethos-u-vela', 1, 'int8')
  make_npu_table(table, graph, path, said.append, step=100)
  found = read_table(path)
  (conv,) = (one for one in found.segments.values() if 'Conv2D' in one.text)
  assert conv.ms[0][-1] > conv.ms[0][0] > 0  # Wider takes longer.
  (scale,) = found.networks.values()
  assert len(scale.measured) == 4
  assert scale.measured[0] > scale.measured[-1]
  count = len(said)
  make_npu_table(found, graph, path, said.append, step=100)
  assert len(said) == count  # Nothing is compiled again.
