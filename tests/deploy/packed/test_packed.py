"""Packed networks come back bit by bit; damaged files are refused."""

import heapq
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.packed import gaps, halves, huffman, kernels, streams
from secateurs.utils.deploy.packed.cli import main
from secateurs.utils.deploy.packed.network import pack, read, unpack
from secateurs.utils.errors import UserError
from secateurs.utils.model_files import load_model

L = keras.layers
PLACES = {0: Buckets((3, 3, 3, 8)), 6: Buckets((288, 4))}


def least_bits(counts):
  """Bits of an optimal prefix code: the sum of all merged weights (Huffman 1952)."""
  heap = [int(c) for c in counts if c]
  if len(heap) == 1:
    return heap[0]
  heapq.heapify(heap)
  total = 0
  while len(heap) > 1:
    both = heapq.heappop(heap) + heapq.heappop(heap)
    total += both
    heapq.heappush(heap, both)
  return total


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=40).filter(any))
def test_code_lengths_are_optimal_and_codes_are_decoded(counts):
  lengths = huffman.code_lengths(np.array(counts))
  assert int((lengths * np.array(counts)).sum()) == least_bits(counts)
  symbols = np.repeat(np.arange(len(counts)), counts)
  np.random.default_rng(0).shuffle(symbols)
  data, blocks = huffman.encode(symbols, lengths)
  assert len(data) == -(-least_bits(counts) // 8)
  np.testing.assert_array_equal(huffman.decode(data, blocks, lengths, len(symbols)), symbols)


def test_codes_by_hand():
  lengths = huffman.code_lengths(np.array([1, 1, 2, 4]))
  assert lengths.tolist() == [3, 3, 2, 1]
  data, blocks = huffman.encode(np.array([3, 2, 0, 1]), lengths)  # 0, 10, 110, 111
  assert (data, blocks.tolist()) == (bytes([0b01011011, 0b10000000]), [9])


def test_long_codes_are_shortened():
  counts = [1, 1]
  while len(counts) < 40:
    counts.append(counts[-1] + counts[-2])  # Fibonacci: the deepest tree.
  lengths = huffman.code_lengths(np.array(counts))
  assert lengths.max() <= huffman.MAX_LENGTH
  assert sum(2.0**-length for length in lengths.tolist()) <= 1  # Kraft


@pytest.mark.parametrize('coder', [streams.FIXED, streams.HUFFMAN])
def test_streams_longer_than_a_block(coder):
  symbols = np.random.default_rng(0).geometric(0.3, 3 * huffman.BLOCK + 5).clip(max=17)
  data = streams.write(symbols, 18, coder)
  reader = streams.Reader(data + b'x')
  np.testing.assert_array_equal(reader.symbols(len(symbols)), symbols)
  assert len(data) == streams.nb_bytes(symbols, 18, coder)
  assert reader.take(1) == b'x'
  with pytest.raises(ValueError, match='end too early'):
    streams.Reader(data[:-1]).symbols(len(symbols))
  with pytest.raises(ValueError, match='where there can be 9'):
    streams.Reader(data).symbols(9)


@pytest.mark.parametrize('rest', [0, 1, 3])
def test_codes_are_made_in_pieces(rest, monkeypatch):
  symbols = np.random.default_rng(0).integers(0, 9, 3 * huffman.BLOCK + rest).clip(min=4)
  whole = streams.write(symbols, 9, streams.HUFFMAN), streams.write(symbols, 9, streams.FIXED)
  monkeypatch.setattr(huffman, '_PIECE', huffman.BLOCK)
  monkeypatch.setattr(streams, '_PIECE', 8)
  assert whole == tuple(streams.write(symbols, 9, one) for one in (streams.HUFFMAN, streams.FIXED))


@pytest.mark.parametrize(
  'data',
  [
    struct.pack('<BIB', streams.FIXED, 1 << 22, 0),  # No bits for four million symbols.
    struct.pack('<BIB', streams.FIXED, 1, 255) + bytes(32),
    # A thousand blocks of no bits.
    struct.pack('<BIH', streams.HUFFMAN, 1 << 22, 1) + b'\x10' + bytes(2 << 10) + bytes(4),
  ],
)
def test_streams_that_say_more_than_they_hold_are_refused_before_they_are_made(data):
  tracemalloc.start()
  with pytest.raises(ValueError, match=r'is no number of bits|do not fit'):
    streams.Reader(data).symbols(1 << 22)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert most < 1 << 20


def test_writing_a_kernel_takes_no_many_times_its_bytes():
  kernel = np.random.default_rng(0).integers(-9, 9, (1 << 10, 1 << 9)).astype(np.float32)
  buckets = Buckets(kernel.shape)
  tracemalloc.start()
  data = kernels.write(kernel, buckets, kernels.ALL)
  written = tracemalloc.get_traced_memory()[1]
  tracemalloc.reset_peak()
  kernels.read(data, buckets)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert written < 16 * kernel.nbytes
  assert most < 10 * kernel.nbytes


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_gaps(nonzero, bits):
  nonzero = np.array(nonzero, bool)
  symbols = gaps.to_gaps(nonzero, bits)
  np.testing.assert_array_equal(gaps.from_gaps(symbols, bits, len(nonzero)), nonzero)
  with pytest.raises(ValueError, match='past the end'):
    gaps.from_gaps(np.append(symbols, 0), bits, int(nonzero.sum()) and 0)


def test_gaps_by_hand():
  nonzero = np.array([0, 1, 1, 0, 0, 0, 0, 1, 0], bool)
  assert gaps.to_gaps(nonzero, 2).tolist() == [1, 0, 3, 1]  # 3: three zeros and no weight


@pytest.mark.parametrize('kind', ['layer', 'channel', 'split'])
@pytest.mark.parametrize('stage', kernels.STAGES)
@pytest.mark.parametrize('share', [0.0, 0.8, 1.0])
def test_kernels_come_back_bit_by_bit(kind, stage, share):
  rng = np.random.default_rng(0)
  kernel = rng.choice(rng.standard_normal(8), (3, 3, 5, 7)).astype(np.float32)
  kernel[rng.random(kernel.shape) < share] = 0
  buckets = Buckets(kernel.shape, kind, 50)
  found = kernels.read(kernels.write(kernel, buckets, stage), buckets)
  np.testing.assert_array_equal(found, kernel)
  assert found.dtype == np.float32


def test_each_stage_is_smaller():
  rng = np.random.default_rng(0)
  kernel = np.round(rng.standard_normal((3, 3, 32, 32)) * 2).astype(np.float32)
  kernel[rng.random(kernel.shape) < 0.7] = 0
  sizes = [len(kernels.write(kernel, Buckets(kernel.shape), stage)) for stage in kernels.STAGES]
  assert sizes == sorted(sizes, reverse=True)
  assert len(set(sizes)) == len(sizes)  # Whole numbers are float16, too.
  entropy = 0.0
  for values in (kernel.ravel() != 0, kernel[kernel != 0]):
    counts = np.unique(values, return_counts=True)[1] / values.size
    entropy -= values.size * float(counts @ np.log2(counts)) / 8
  assert entropy < sizes[-1] < 1.1 * entropy


@pytest.fixture(scope='module')
def model():
  inputs = L.Input((8, 8, 3))
  x = L.Conv2D(8, 3, name='conv')(inputs)
  x = L.ReLU()(L.BatchNormalization()(x))
  model = keras.Model(inputs, L.Dense(4, name='head')(L.Flatten()(x)), name='small')
  for layer in ('conv', 'head'):
    kernel = model.get_layer(layer).kernel
    values = np.round(kernel.numpy() * 12)
    kernel.assign(np.where(np.abs(values) < 1, 0, values / 12))
  return model


@pytest.fixture(scope='module')
def content(model):
  assert [model.weights[place].shape for place in PLACES] == [(3, 3, 3, 8), (288, 4)]
  return pack(model, PLACES)


def test_a_network_comes_back(model, content):
  assert len(content) < 0.5 * sum(4 * weight.shape.num_elements() for weight in model.weights)
  again = unpack(content).model()
  for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  x = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
  np.testing.assert_array_equal(model(x).numpy(), again(x).numpy())


def test_the_command_gives_the_keras_file_back(model, content, tmp_path, capsys):
  (tmp_path / 'net.dc').write_bytes(content)
  command = [sys.executable, '-m', 'secateurs.utils.deploy.packed']
  done = subprocess.run(
    [*command, 'net.dc'], cwd=tmp_path, capture_output=True, text=True, check=True
  )
  assert done.stdout.startswith('net.keras')
  for one, other in zip(
    model.get_weights(), load_model(tmp_path / 'net.keras').get_weights(), strict=True
  ):
    np.testing.assert_array_equal(one, other)
  before = (tmp_path / 'net.keras').read_bytes()
  with pytest.raises(SystemExit):
    main([str(tmp_path / 'net.dc')])
  assert 'net.keras exists already: name the file to write' in capsys.readouterr().err
  assert (tmp_path / 'net.keras').read_bytes() == before


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda data: data[:-3], 'bytes after its head, but'),
    (lambda data: data[:80] + bytes([data[80] ^ 1]) + data[81:], 'checksum does not match'),
    (lambda data: b'PK' + data[2:], 'is no packed network of this version'),
    (lambda data: b'', 'is no packed network of this version'),
  ],
)
def test_damaged_files_are_refused(content, damage, message, tmp_path):
  path = tmp_path / 'net.dc'
  path.write_bytes(damage(content))
  with pytest.raises(UserError, match=message) as caught:
    read(path)
  assert str(caught.value).startswith(str(path))


def test_a_file_whose_parts_do_not_fit_is_refused(content):
  import zlib

  size = struct.calcsize('<6sIQ')
  body = bytearray(content[size:])
  body[-40:-30] = bytes(10)
  head = struct.pack('<6sIQ', b'SECDC1', zlib.crc32(bytes(body)), len(body))
  with pytest.raises(UserError, match='cannot be decoded'):
    unpack(head + bytes(body))


def test_a_missing_file(tmp_path):
  with pytest.raises(UserError, match='does not exist'):
    read(tmp_path / 'none.dc')


def test_values_that_sixteen_bits_hold():
  values = np.float32([[1.0, -1 / 3, 1e-5], [0.0, 1000.1, -7e-9]])
  rounded = halves.in_halves(values)
  np.testing.assert_array_equal(rounded, values.astype(np.float16).astype(np.float32))
  assert halves.are_halves(rounded)
  assert not halves.are_halves(values)


@pytest.mark.parametrize(
  'values',
  [
    np.float32([1e5, 1.0]),  # Too large.
    np.float32([1e-7, 3e-7]),  # All so small that few bits are left.
    np.float32([np.nan, 1 / 3]),
    np.float32([np.inf, 1 / 3]),
    np.int32([70_000]),
    np.float32([]),
  ],
)
def test_values_that_sixteen_bits_do_not_hold_stay(values):
  np.testing.assert_array_equal(halves.in_halves(values), values)


def test_a_network_in_sixteen_bits_comes_back_and_takes_less(model, content):
  again = unpack(content).model()
  rng = np.random.default_rng(0)
  norm = again.layers[2]
  norm.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in norm.get_weights()])
  before = pack(again, PLACES)
  rounded = pack(again, PLACES, rounding=True)
  halves.halve(again)
  packed = pack(again, PLACES)
  for found, expected in zip(unpack(packed).weights, again.get_weights(), strict=True):
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
  assert packed == rounded
  assert len(packed) <= len(before) - 1.5 * sum(weight.size for weight in norm.get_weights())


def test_kernels_of_sixteen_bits_without_codebooks():
  rng = np.random.default_rng(0)
  kernel = halves.in_halves(rng.standard_normal((1, 1, 50, 100)).astype(np.float32))
  buckets = Buckets(kernel.shape)
  data = kernels.write(kernel, buckets, kernels.ALL)
  assert len(data) < 2 * kernel.size + 10
  np.testing.assert_array_equal(kernels.read(data, buckets), kernel)
