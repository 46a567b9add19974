"""Structured learners keep the widths that a table of latencies makes cheap."""

import pytest
import tf_keras as keras

from secateurs.utils.deploy.latency_table.grid import output_grid
from secateurs.utils.deploy.latency_table.prediction import segment_sum
from secateurs.utils.deploy.latency_table.segments import segments_of
from secateurs.utils.deploy.latency_table.table import LatencyTable, SegmentTimes, read_table
from secateurs.utils.graph import ChannelGraph, plan_slice

L = keras.layers
_TARGET = 0.6
CONFIGS = {
  'dis-chn-pruned': {'select': 'random', 'nb_stages': 0, 'nb_iters_layer': 1},
  'reg-pruned': {'nb_batches': 2},
  'gate-pruned': {'nb_batches': 2},
  'prune-regrow': {},
}


def two_layers():
  x = inputs = L.Input((32, 32, 3))
  x = L.Conv2D(16, 3, strides=4, padding='same', activation='relu', name='first')(x)
  x = L.Conv2D(16, 3, padding='same', activation='relu', name='second')(x)
  return keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x)))


def write_table(graph, cheap, path):
  """Ten times less for the first layer at no more than so many channels; others take always alike."""
  table = LatencyTable('a phone', 'a runtime', 1, 'float')
  for segment in segments_of(graph.traced.flat):
    taken = [segment.in_shapes[0][-1]]
    made = output_grid(segment.out_channels) if segment.makes else [1]
    first = segment.calls[0].name == 'first'
    long = 10.0 if segment.calls[0].name in ('first', 'second') else 0.0
    ms = [[1.0 if first and number <= cheap else long for number in made]]
    table.segments[segment.key] = SegmentTimes(segment.text, taken, made, ms)
  table.write(path)
  return str(path)


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_the_width_that_a_table_makes_cheap_is_kept(name, make, helper, tmp_path):
  network = type(helper)('two_layers', two_layers, helper.dataset, helper.recipe)
  model = network.build_model(0)
  model.save(tmp_path / 'start.keras')
  graph = ChannelGraph(model)

  def learner(cheap):
    return make(
      name,
      f'cheap{cheap}',
      run={'warm_start_path': str(tmp_path / 'start.keras')},
      training={'nb_epochs_ft': 0.05},
      helper=network,
      target_latency=_TARGET,
      latency_table=write_table(graph, cheap, tmp_path / f'{cheap}.json'),
      **CONFIGS[name],
    )

  other = learner(12)
  other.run_phases(until='allocate')
  assert sorted(other.state.widths.counts.values()) == [12, 16]
  found = learner(8)
  found.run_phases(until='slice')
  slim = found.model
  assert [slim.get_layer(one).filters for one in ('first', 'second')] == [8, 16]
  table = read_table(tmp_path / '8.json')
  now, whole = (segment_sum(table, one, plan_slice(one, {})) for one in (ChannelGraph(slim), graph))
  assert now / whole <= _TARGET
  assert found.state.widths.latency['predicted'] == pytest.approx(now / whole)
  assert found.requested() == {'latency_ratio': _TARGET}
