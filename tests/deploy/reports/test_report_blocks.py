"""The parts of a report, made from counts and exports."""

from types import SimpleNamespace

import pytest
from sample_report import score

from secateurs.utils.deploy.reports.blocks import achieved, layer_rows, model_block, versions


def _layer(name, out_channels, macs):
  return SimpleNamespace(
    name=name, type='Conv2D', in_channels=3, out_channels=out_channels, macs=macs, params=9
  )


def _count(*layers):
  return SimpleNamespace(macs=sum(layer.macs for layer in layers), params=20, layers=list(layers))


def test_layer_rows_join_by_name_and_show_what_is_gone():
  before = _count(_layer('a', 8, 100), _layer('b', 4, 50))
  rows = layer_rows(before, _count(_layer('a', 6, 75)), {'a': 0.5})
  assert rows[0] == {
    'name': 'a',
    'type': 'Conv2D',
    'in_channels': [3, 3],
    'out_channels': [8, 6],
    'macs': [100, 75],
    'params': [9, 9],
    'sparsity': 0.5,
  }
  assert rows[1]['macs'] == [50, 0]
  assert rows[1]['sparsity'] is None


def test_model_block_takes_what_was_measured():
  size = SimpleNamespace(bytes=10, gzip_bytes=8)
  further = {'tflite_quant': size, 'dc': size}
  export = SimpleNamespace(
    tflite=size, tflite_int8=None, tflite_sparse=None, further={}, left_out={}, notes=[]
  )
  entry = {'threads': 1, 'p50_ms': 1.0, 'p90_ms': 2.0, 'fps': 900.0}
  count = _count(_layer('a', 8, 100))
  evaluation = {'score': score(0.9), 'accuracy': 0.9, 'loss': 0.4}
  block = model_block(
    evaluation=evaluation, count=count, export=export, latency=[entry], sparsity=0.5
  )
  assert block == {
    **evaluation,
    'sparsity': 0.5,
    'params': 20,
    'macs': 100,
    'tflite_bytes': 10,
    'tflite_gzip_bytes': 8,
    'latency': [entry],
  }
  export.further = further
  block = model_block(export=export, quant={'loss': 0.5})
  assert block['quant'] == {'loss': 0.5, 'bytes': 10, 'gzip_bytes': 8}
  assert block['packed'] == {'bytes': 10, 'gzip_bytes': 8}
  export = SimpleNamespace(
    tflite=size, tflite_int8=size, tflite_sparse=size, further={}, left_out={}, notes=[]
  )
  int8 = {'score': score(0.8), 'post_training_score': 0.7}
  block = model_block(evaluation=None, export=export, int8=int8, int8_latency=[entry])
  assert block['int8'] == {**int8, 'bytes': 10, 'gzip_bytes': 8, 'latency': [entry]}
  assert block['sparse'] == {'bytes': 10, 'gzip_bytes': 8}
  assert model_block(evaluation=None) == {}


def test_achieved_is_what_was_removed():
  cut = achieved({'macs': 100, 'params': 40}, {'macs': 25, 'params': 20})
  assert cut['prune_ratio'] == pytest.approx(0.75)
  assert (cut['macs_ratio'], cut['params_ratio']) == (0.25, 0.5)
  zeroed = achieved({'macs': 100, 'params': 40}, {'macs': 100, 'params': 40, 'sparsity': 0.9})
  assert zeroed['prune_ratio'] == 0.9
  grown = achieved({'macs': 100}, {'macs': 110, 'sparsity': 0.2}, channels_ratio=0.5)
  assert grown['prune_ratio'] == 0.2
  assert grown['channels_ratio'] == 0.5
  assert achieved({}, {})['macs_ratio'] is None


def test_versions_name_the_stack_and_skip_the_absent():
  found = versions(['no-such-package'])
  assert {'python', 'tensorflow', 'tf-keras', 'numpy'} <= set(found)
  assert 'no-such-package' not in found
