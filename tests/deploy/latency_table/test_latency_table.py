"""Tables of latencies: segments, closed form, files of other devices; times are faked but for one."""

import dataclasses
import json
import subprocess

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.deploy.latency_table import cli, elsewhere, measure
from secateurs.utils.deploy.latency_table.grid import input_grid, merged, output_grid
from secateurs.utils.deploy.latency_table.prediction import LatencyForm, segment_sum
from secateurs.utils.deploy.latency_table.segments import build, network_key, segments_of
from secateurs.utils.deploy.latency_table.table import LatencyTable, SegmentTimes, read_table
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, Plan
from secateurs.utils.graph.flat.walk import flatten_model

L = keras.layers


def network(end=None):
  x = inputs = L.Input((8, 8, 3))
  x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 3, padding='same', name='stem')(x)))
  for block in range(2):
    y = L.Conv2D(24, 1, name=f'expand{block}')(x)
    y = L.ReLU(6.0)(L.DepthwiseConv2D(3, padding='same', name=f'dw{block}')(y))
    y = L.Conv2D(16, 1, name=f'project{block}')(y)
    x = L.ReLU()(L.Add()([x, L.BatchNormalization()(y)]))
  return keras.Model(inputs, L.Dense(4, end, name='logits')(L.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope='module')
def graph():
  return ChannelGraph(network())


def fake_times(table, segment, inputs, outputs):
  """Linear in both numbers of channels."""
  del table
  weight = 1 + int(segment.key[:4], 16) % 7
  made = outputs if segment.makes else [1]
  ms = [[weight * (1 + taken) * (2 + one) for one in made] for taken in inputs]
  return SegmentTimes(segment.text, inputs, made, ms)


@pytest.fixture
def table(graph, monkeypatch, tmp_path):
  monkeypatch.setattr(measure, '_times', fake_times)
  monkeypatch.setattr(measure, '_time', lambda table, contents, *_: [(1.0, 0.0)] * len(contents))
  monkeypatch.setattr(measure, 'fit_scale', lambda *_: measure.scale_of([1, 2], [3.5, 5.5]))
  made = LatencyTable('here', 'a runtime', 1, 'float')
  measure.make_table(made, graph, tmp_path / 'table.json', lambda _: None)
  return made


def test_segments_hold_what_is_fused_and_equal_layers_have_one_key(graph):
  flat = graph.traced.flat
  segments = segments_of(flat)
  assert sorted(id(call) for one in segments for call in one.calls) == sorted(map(id, flat.calls))
  texts = [one.text for one in segments]
  assert texts[0] == 'Conv2D 3x3 1x1 at 8x8 + BatchNormalization + ReLU'
  assert texts[2] == 'DepthwiseConv2D 3x3 1x1 at 8x8 + ReLU'
  keys = [one.key for one in segments]
  assert keys[1] == keys[5]
  assert keys[2] == keys[6]
  assert keys[4] == keys[8]  # The additions.
  assert keys[3] == keys[1]  # Both are 1x1 convolutions on the same map.
  assert len(set(keys)) == 6
  other = segments_of(flatten_model(network()))
  assert network_key(other) == network_key(segments)
  # Runs train a network without the softmax that its file ends in.
  assert network_key(segments_of(flatten_model(network('softmax')))) == network_key(segments)


def test_segments_are_built_at_other_widths(graph):
  for segment in segments_of(graph.traced.flat):
    model = build(segment, 5, 8)
    assert model.output_shape[-1] == 8
    if segment.makes:
      assert model.input_shape[-1] == 5


def test_grids_by_hand():
  assert output_grid(16) == [4, 8, 12, 16]
  assert output_grid(10) == [4, 8, 10]
  assert output_grid(3) == [3]
  assert output_grid(960) == [*range(60, 960, 60), 960]
  assert input_grid(64) == [16, 32, 48, 64]
  assert input_grid(3) == [3]
  assert merged([[4, 8, 12, 16], [4, 8, 12, 16]], 1.6) == [4, 8, 12, 16]
  assert merged([[4, 8, 12, 16], [8, 16, 24, 32]], 1.6) == [4, 8, 16, 32]
  assert merged([[16, 32], [18, 36]], 1.6) == [16, 32, 36]  # The last of each layer is there.


def test_the_closed_form_equals_planning(graph, table):
  groups = [group for group in graph.groups if group.prunable and group.free.all()]
  assert len(groups) == 3

  def plan(gone):
    alive = np.ones(len(graph.traced.why), bool)
    for group, less in zip(groups, gone, strict=True):
      alive[group.roots] = np.arange(group.size) < group.size - less
    return Plan(graph, alive, {})

  form = LatencyForm(table, graph, plan([0, 0, 0]), [plan(row) for row in np.eye(3, dtype=int)])
  rng = np.random.default_rng(0)
  for _ in range(20):
    gone = rng.integers(0, 12, 3)
    assert form(gone) == pytest.approx(1.5 + 2 * segment_sum(table, graph, plan(gone)))


def test_tables_resume_and_are_read_again(graph, table, tmp_path, monkeypatch):
  path = tmp_path / 'table.json'
  again = read_table(path)
  assert again == table
  monkeypatch.setattr(measure, '_times', None)  # All segments are known.
  measure.make_table(again, graph, path, lambda _: None)
  # A segment is timed as widely as the widest layer that it stands for.
  conv = next(one for one in table.segments.values() if 'Conv2D 1x1' in one.text)
  assert (conv.inputs[-1], conv.outputs[-1]) == (24, 24)


def test_tables_of_another_network_or_version_are_refused(table, tmp_path):
  inputs = L.Input((8, 8, 3))
  other = ChannelGraph(keras.Model(inputs, L.Conv2D(8, 5, name='five')(inputs)))
  whole = Plan(other, np.ones(len(other.traced.why), bool), {})
  with pytest.raises(UserError, match=r'lacks 1 layers of .*, such as Conv2D 5x5 1x1 at 8x8'):
    LatencyForm(table, other, whole, [])
  with pytest.raises(
    UserError, match=r'--cp_latency_table .*none\.json does not exist: make it with'
  ):
    read_table(tmp_path / 'none.json', 'cp_latency_table')
  (tmp_path / 'odd.json').write_text('{"schema": 1}')
  with pytest.raises(UserError, match='is no table of latencies'):
    read_table(tmp_path / 'odd.json')
  segment = max(table.segments.values(), key=lambda one: min(len(one.inputs), len(one.outputs)))
  assert len(segment.inputs) > 1 < len(segment.outputs)
  for change in ({'ms': [[1.0]]}, {'inputs': segment.inputs[::-1]}, {'outputs': []}, 'NaN'):
    values = {**dataclasses.asdict(segment), **(change if change != 'NaN' else {})}
    text = json.dumps({**dataclasses.asdict(table), 'segments': {'a': values}})
    if change == 'NaN':
      text = text.replace('"call_ms": 1.0', '"call_ms": NaN')
      assert 'NaN' in text
    (tmp_path / 'odd.json').write_text(text)
    with pytest.raises(UserError, match='is no table of latencies'):
      read_table(tmp_path / 'odd.json')


def test_scale_recovers_factor_and_offset():
  sums = np.array([1.0, 2.0, 3.0])
  found = measure.scale_of(sums, 0.5 + 1.5 * sums)
  assert (found.factor, found.offset) == (pytest.approx(1.5), pytest.approx(0.5))
  assert measure.scale_of(sums, 2 * sums - 0.1).offset == 0.0
  steep = measure.scale_of(sums, 3 * sums**1.2)
  assert (steep.factor, steep.offset, steep.power) == pytest.approx((3.0, 0.0, 1.2))
  assert steep.ms(2.0) == pytest.approx(3 * 2**1.2)
  falling = measure.scale_of(sums, 1 / sums)  # Such times would be noise.
  assert (falling.offset, falling.power) == (0.0, 1.0)
  assert falling.factor > 0


BENCHMARK = """#!/bin/sh
case "$1" in *network_*) us=500 ;; *empty*) us=2 ;; *) us=12.5 ;; esac
echo "Inference timings in us: Init: 100, First inference: 9, Inference (avg): $us"
"""


def test_files_for_another_device_are_timed_by_the_script_and_collected(tmp_path, capsys):
  inputs = L.Input((6, 6, 3))
  x = L.Conv2D(8, 3, name='a')(inputs)
  model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))
  model.save(tmp_path / 'm.keras')
  folder, out = tmp_path / 'files', tmp_path / 'phone.json'
  arguments = [str(tmp_path / 'm.keras'), '--out', str(out)]
  assert cli.main([*arguments, '--collect', str(folder)]) == 1
  assert 'give the folder that --emit wrote' in capsys.readouterr().err
  assert cli.main([*arguments, '--emit', str(folder)]) == 0
  assert cli.main([*arguments, '--collect', str(folder)]) == 1
  assert 'has no time of benchmark_model: run' in capsys.readouterr().err
  benchmark = tmp_path / 'benchmark'
  benchmark.write_text(BENCHMARK)
  benchmark.chmod(0o755)
  subprocess.run(
    [folder / 'run.sh'], env={'BENCHMARK': str(benchmark), 'PATH': '/usr/bin:/bin'}, check=True
  )
  assert cli.main([*arguments, '--collect', str(folder), '--device', 'a phone']) == 0
  table = read_table(out)
  assert (table.device, table.call_ms) == ('a phone', 0.002)
  assert all(ms == pytest.approx(0.0105) for one in table.segments.values() for ms in one.ms[0])
  (scale,) = table.networks.values()
  assert scale.measured == [0.5] * 4
  assert cli.main([*arguments, '--emit', str(folder)]) == 0  # The same files: results stay.
  assert list((folder / elsewhere.RESULTS).iterdir())
  keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x))).save(tmp_path / 'other.keras')
  other = [str(tmp_path / 'other.keras'), *arguments[1:], '--device', 'a phone']
  capsys.readouterr()
  assert cli.main([*other, '--collect', str(folder)]) == 1
  assert 'holds the files of another network' in capsys.readouterr().err
  graph = ChannelGraph(model)
  elsewhere._forget_others(
    folder, {'kind': 'float', 'threads': 2, 'network': elsewhere._key(graph)}
  )
  assert not (folder / elsewhere.RESULTS).exists()


@pytest.mark.parametrize('content', ['{"kind"', '[]', '{"kind": "float"}', 'null', '[' * 99_999],
                         ids=['cut', 'list', 'part', 'null', 'deep'])  # fmt: skip
def test_a_damaged_list_of_files_is_a_sentence(content, tmp_path):
  (tmp_path / elsewhere.INDEX).write_text(content)
  with pytest.raises(UserError, match='is not the list of files that --emit writes'):
    elsewhere._read_index(tmp_path)


@pytest.mark.parametrize('text', ['', 'Inference (avg): 1e999', 'Inference (avg): e.+'])
def test_a_result_without_a_time_is_named(tmp_path, text):
  (tmp_path / elsewhere.RESULTS).mkdir()
  (tmp_path / elsewhere.RESULTS / 'x.tflite.txt').write_text(text)
  with pytest.raises(UserError, match=r'x\.tflite\.txt has no time of benchmark_model'):
    elsewhere._result(tmp_path, 'x.tflite')


def test_a_small_table_is_timed_here(tmp_path):
  inputs = L.Input((6, 6, 3))
  x = L.Conv2D(8, 3, name='a')(inputs)
  graph = ChannelGraph(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x))))
  said = []
  table = LatencyTable('here', 'a runtime', 1, 'int8')
  measure.make_table(table, graph, tmp_path / 'table.json', said.append, step=2)
  assert said[0] == '3 layers to time, 6 files'
  assert len(table.segments) == 3
  assert 0 < table.call_ms < 5
  (scale,) = table.networks.values()
  assert scale.factor > 0
  assert len(scale.measured) == len(measure.FRACTIONS)


@pytest.mark.parametrize(
  ('arguments', 'code', 'text'),
  [
    (['--emit', 'a', '--collect', 'b'], 2, 'not allowed with argument --emit'),
    (['--vela', 'ethos-u55-128', '--emit', 'a'], 2, 'not allowed with argument --vela'),
    (['--device', 'a phone'], 2, '--device names the device of --collect'),
    (['--collect', 'a', '--clock', 'cpu'], 2, '--clock is of this machine'),
    (['--vela', 'ethos-u55-128', '--threads', '2'], 2, '--threads has no effect on an NPU'),
    (['--out', 'folder'], 1, '--out folder is a folder, but a file was expected'),
    (['--out', 'empty.json'], 1, '--out empty.json exists, but is no table'),
    (['--out', 'empty.json/table.json'], 1, 'Cannot write to the folder empty.json'),
  ],
)
def test_mistakes_are_one_sentence_before_anything_is_timed(
  arguments, code, text, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(measure, 'make_table', None)
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'empty.json').touch()
  keras.Sequential([L.Input((4,)), L.Dense(2)]).save('m.keras')
  assert cli.main(['m.keras', *arguments]) == code
  said = capsys.readouterr().err
  assert text in said
  assert said.count('\n') == 1
