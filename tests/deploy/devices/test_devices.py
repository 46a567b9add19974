import importlib.util
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.devices import micro, vela
from secateurs.utils.deploy.devices.memory_plan import Life, lives_of, peak_memory, plan
from secateurs.utils.deploy.files.convert import convert, int8_bytes, tflite_bytes, trace_function
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.errors import UserError

needs_vela = pytest.mark.skipif(
  importlib.util.find_spec('ethosu') is None, reason='ethos-u-vela is not installed'
)
needs_micro = pytest.mark.skipif(not micro.is_installed(), reason='tflite-micro is not installed')


def network(width=8):
  keras.utils.set_random_seed(0)
  x = inputs = keras.Input((16, 16, 4))
  x = keras.layers.Conv2D(width, 3, padding='same', activation='relu', name='wide')(x)
  x = keras.layers.Conv2D(4, 3, strides=2, activation='relu')(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(inputs, keras.layers.Dense(3)(x))


@pytest.fixture(scope='module')
def int8_file(tmp_path_factory):
  path = tmp_path_factory.mktemp('devices') / 'net_int8.tflite'
  images = np.random.default_rng(0).standard_normal((8, 16, 16, 4)).astype(np.float32)
  path.write_bytes(int8_bytes(network(), images))
  return path


def test_a_plan_by_hand():
  # The first two are alive together, the third only with the second: it takes the first one's place.
  assert plan([Life(64, 0, 1), Life(32, 1, 2), Life(64, 2, 3)]) == 96
  assert plan([Life(64, 0, 3), Life(32, 1, 2), Life(64, 2, 3)]) == 160
  assert plan([]) == 0


def test_a_hole_is_filled():
  lives = [Life(100, 0, 9), Life(60, 0, 2), Life(50, 0, 9), Life(60, 3, 9)]
  assert plan(lives) == 210  # The last one follows the first, where the second was.


def test_the_peak_of_a_float_file_is_its_widest_layer(tmp_path):
  path = tmp_path / 'net.tflite'
  path.write_bytes(tflite_bytes(network()))
  found = peak_memory(path)
  assert found.least == 4 * 16 * 16 * (4 + 8)  # What the first convolution reads and makes.
  assert found.bytes == found.least
  assert found.kind == 'CONV_2D'
  path.write_bytes(tflite_bytes(network(16)))
  assert peak_memory(path).least == 4 * 16 * 16 * (4 + 16)


def test_integers_take_a_quarter(int8_file):
  assert peak_memory(int8_file).least == 16 * 16 * (4 + 8)
  lives = lives_of(OpenFile(int8_file.read_bytes()))
  assert min(one.first for one in lives) == 0


@needs_micro
def test_the_arena_holds_the_plan(int8_file):
  found = micro.arena(int8_file)
  assert found.reason is None
  assert found.bytes > found.head_bytes >= peak_memory(int8_file).least


@needs_micro
def test_a_file_that_does_not_run_names_the_layer(tmp_path):
  path = tmp_path / 'net.tflite'
  function = trace_function(lambda x: tf.math.atan2(x, x + 1.0), (4, 4, 1))
  path.write_bytes(convert(function, 'net'))
  found = micro.arena(path)
  assert found.bytes is None
  assert found.reason


def test_without_tflite_micro_the_remedy_is_named(int8_file, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tflite_micro', None)
  with pytest.raises(UserError, match=r"pip install -e '\.\[micro\]'"):
    micro.arena(int8_file)


@needs_vela
def test_vela_counts_cycles(int8_file, tmp_path):
  found = vela.npu_cost(int8_file, 'ethos-u55-128')
  assert found.cycles > 0
  assert found.cpu_operators == 0
  assert found.npu_operators > 3
  assert 0 < found.ms < 1
  assert found.sram_bytes >= 16 * 16 * 8
  wider = tmp_path / 'wider.tflite'
  images = np.random.default_rng(0).standard_normal((4, 16, 16, 4)).astype(np.float32)
  wider.write_bytes(int8_bytes(network(64), images))
  assert vela.npu_cost(wider, 'ethos-u55-128').cycles > found.cycles
  assert vela.npu_cost(int8_file, 'ethos-u55-32').cycles > found.cycles


@needs_vela
def test_float_operators_are_on_the_cpu(tmp_path):
  path = tmp_path / 'net.tflite'
  path.write_bytes(tflite_bytes(network()))
  found = vela.npu_cost(path, 'ethos-u55-128')
  assert found.npu_operators == 0
  assert found.cpu_operators > 0
  assert any('wide' in one for one in found.on_cpu)


@needs_vela
def test_an_unknown_device_lists_the_known_ones(int8_file):
  with pytest.raises(UserError, match=r'takes one of ethos-u55-32, .*, but .ethos-u99. was given'):
    vela.npu_cost(int8_file, 'ethos-u99')


def test_without_vela_the_remedy_is_named(int8_file, monkeypatch):
  monkeypatch.setitem(sys.modules, 'ethosu', None)
  with pytest.raises(UserError, match=r"pip install -e '\.\[ethos\]'"):
    vela.npu_cost(int8_file, 'ethos-u55-128')
