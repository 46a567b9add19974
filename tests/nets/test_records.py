"""TFRecord shards: where records lie, in which order they come, and what happens to broken ones."""

import numpy as np
import pytest
import tensorflow as tf

from secateurs.nets.datasets import record_index, record_order
from secateurs.nets.datasets.record_index import find_shards, index_shards, masked_crc32c
from secateurs.nets.datasets.record_order import RecordOrder, chunks_of, split_off
from secateurs.nets.datasets.record_stream import Faults, RecordStream
from secateurs.utils.errors import UserError


def write(folder, counts, split='train'):
  """Shards of records that hold their number and some bytes of padding."""
  number = 0
  for i, count in enumerate(counts):
    path = folder / f'{split}-{i:05d}-of-{len(counts):05d}'
    with tf.io.TFRecordWriter(str(path)) as writer:
      for _ in range(count):
        writer.write(f'{number:05d}'.encode() + b'x' * (number % 7))
        number += 1
  return index_shards(find_shards(folder, split))


def decode(record, position):
  """The record's number; fails for one that says so."""
  del position
  return (tf.strings.to_number(tf.strings.substr(record, 0, 5), tf.int32),)


def stream(shards, seed=1, limit=10, chunk=16):
  faults = Faults(limit)
  chunks = chunks_of(shards, chunk)
  return RecordStream(chunks, seed, decode, lambda data: 'no number', faults), faults


def numbers(dataset, nb=None):
  dataset = dataset if nb is None else dataset.take(nb)
  return [int(x[0]) for x in dataset.as_numpy_iterator()]


def damage(path, text, at=0):
  """Overwrites the byte that lies `at` behind the start of a text in a file."""
  data = bytearray(path.read_bytes())
  place = data.index(text) + at
  data[place] ^= 0xFF
  path.write_bytes(data)


def test_crc_of_the_standard():
  # RFC 3720, appendix B.4: 32 bytes of zeros, and 32 of ones; the mask is that of record_writer.h.
  for byte, crc in ((0x00, 0x8A9136AA), (0xFF, 0x62A8AB43)):
    turned = int(f'{crc:032b}'[-15:] + f'{crc:032b}'[:-15], 2)
    expected = (turned + 0xA282EAD8) % 2**32
    assert masked_crc32c(bytes([byte] * 32)) == expected.to_bytes(4, 'little')


def test_the_index_finds_every_record(tmp_path):
  shards = write(tmp_path, [5, 0, 33])
  assert [len(s.lengths) for s in shards] == [5, 0, 33]
  assert all(s.complete for s in shards)
  data = (tmp_path / 'train-00002-of-00003').read_bytes()
  for i, offset in enumerate(shards[2].offsets[:-1]):
    assert data[offset + 12 : offset + 17] == f'{5 + i:05d}'.encode()
  assert shards[2].offsets[-1] == len(data)


def test_the_index_is_kept_for_large_sets(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(record_index, '_CACHED_FROM_BYTES', 1)
  first = write(tmp_path, [5, 3])
  monkeypatch.setattr(record_index, '_index', None)  # Any walk over a file would fail.
  again = index_shards(find_shards(tmp_path, 'train'))
  for one, other in zip(first, again, strict=True):
    np.testing.assert_array_equal(one.lengths, other.lengths)
    assert (one.path, one.complete) == (other.path, other.complete)


def test_missing_shards_are_named(tmp_path):
  write(tmp_path, [1, 1, 1])
  (tmp_path / 'train-00001-of-00003').unlink()
  with pytest.raises(UserError, match=r'has 2 files .* 3 were expected \(missing: train-00001'):
    find_shards(tmp_path, 'train')
  with pytest.raises(UserError, match=r'has no files validation-\*-of-\*'):
    find_shards(tmp_path, 'validation')


@pytest.mark.parametrize('seed', [None, 3])
def test_every_record_comes_once_an_epoch(tmp_path, monkeypatch, seed):
  monkeypatch.setattr(record_order, 'POOL_CHUNKS', 3)
  shards = write(tmp_path, [21, 4, 30])
  found = numbers(stream(shards, seed, chunk=8)[0].endless(0), 165)
  epochs = [found[:55], found[55:110], found[110:]]
  assert all(sorted(epoch) == list(range(55)) for epoch in epochs)
  if seed is None:
    assert epochs[0] == list(range(55))
  else:
    assert epochs[0] != epochs[1] != epochs[2]
  assert numbers(stream(shards, None, chunk=8)[0].once()) == list(range(55))


@pytest.mark.parametrize('start', [0, 1, 23, 24, 54, 55, 100, 130])
def test_the_stream_can_be_entered_anywhere(tmp_path, monkeypatch, start):
  monkeypatch.setattr(record_order, 'POOL_CHUNKS', 3)
  shards = write(tmp_path, [21, 4, 30])
  whole = numbers(stream(shards, chunk=8)[0].endless(0), 165)
  assert numbers(stream(shards, chunk=8)[0].endless(start), 165 - start) == whole[start:]


def test_pools_mix_records_of_many_places(tmp_path):
  shards = write(tmp_path, [300, 300])
  order = RecordOrder(chunks_of(shards).count, seed=5)
  chunks, places, position = order.pool(0)
  assert int(position) == 0
  assert sorted(chunks.numpy()) == list(range(38))
  assert sorted(places.numpy()) == list(range(600))
  assert np.mean(np.abs(np.diff(places.numpy())) <= 16) < 0.1


def test_shards_of_processes_are_disjoint_and_whole(tmp_path):
  chunks = chunks_of(write(tmp_path, [50, 7, 90]), 8)
  parts = [chunks.shard(i, 3) for i in range(3)]
  starts = [set(zip(p.file.tolist(), p.first.tolist(), strict=True)) for p in parts]
  assert sum(p.nb_records for p in parts) == 147
  assert sum(len(s) for s in starts) == len(chunks) == len(set.union(*starts))


@pytest.mark.parametrize('nb', [0, 1, 8, 13, 53, 54])
def test_splitting_off_cuts_chunks_exactly(tmp_path, nb):
  shards = write(tmp_path, [21, 4, 29])
  chunks = chunks_of(shards, 8)
  order = np.random.RandomState(0).permutation(len(chunks))
  head, rest = split_off(chunks.take(order), nb, shards)
  found = [
    numbers(RecordStream(part, None, decode, str, Faults(0)).once()) if len(part) else []
    for part in (head, rest)
  ]
  assert len(found[0]) == nb
  assert sorted(found[0] + found[1]) == list(range(54))


def test_a_record_with_a_wrong_checksum_is_left_out_alone(tmp_path, capsys):
  shards = write(tmp_path, [40])
  damage(tmp_path / 'train-00000-of-00001', b'00021', at=5)
  one, faults = stream(shards, None)
  assert numbers(one.once()) == [i for i in range(40) if i != 21]
  assert len(faults) == 1
  assert 'record 21 of' in capsys.readouterr().out
  assert faults.notes()[0].endswith('record 21 of train-00000-of-00001 (its checksum is wrong).')


def test_what_cannot_be_decoded_is_replaced_by_its_neighbour(tmp_path):
  shards = write(tmp_path, [21, 4, 30])
  good = numbers(stream(shards)[0].endless(0), 130)
  with tf.io.TFRecordWriter(str(tmp_path / 'train-00001-of-00003')) as writer:
    for text in (b'00021', b'wrong', b'wrong', b'00024xxx'):
      writer.write(text)
  shards = index_shards(find_shards(tmp_path, 'train'))
  one, faults = stream(shards)
  expected, following = [], None
  for number in reversed(good):
    following = following if number in (22, 23) else number
    expected.append(following)
  expected = expected[::-1]
  assert numbers(one.endless(0), 110) == expected[:110]
  assert len(faults) == 2
  for start in (7, 30, 54, 60):
    assert numbers(stream(shards)[0].endless(start), 110 - start) == expected[start:110]


def test_a_limit_stops_the_run(tmp_path):
  shards = write(tmp_path, [40])
  for text in (b'00003', b'00021', b'00030'):
    damage(tmp_path / 'train-00000-of-00001', text, at=2)
  assert len(numbers(stream(shards, None, limit=3)[0].once())) == 37
  with pytest.raises(tf.errors.OpError, match=r'UserError: 3 records cannot be used'):
    numbers(stream(shards, None, limit=2)[0].once())


def test_nothing_but_broken_records_ends_the_run(tmp_path):
  path = tmp_path / 'train-00000-of-00001'
  with tf.io.TFRecordWriter(str(path)) as writer:
    for _ in range(20):
      writer.write(b'wrong')
  shards = index_shards([path])
  with pytest.raises(tf.errors.OpError, match='None of the 20 records can be used'):
    numbers(stream(shards, limit=100)[0].endless(0), 1)


def test_a_torn_file_is_read_up_to_its_end(tmp_path):
  path = tmp_path / 'train-00000-of-00001'
  write(tmp_path, [40])
  path.write_bytes(path.read_bytes()[:-3])
  (shard,) = index_shards([path])
  assert not shard.complete
  assert len(shard.lengths) == 39


def test_a_wrong_length_ends_the_file_there(tmp_path):
  path = tmp_path / 'train-00000-of-00001'
  write(tmp_path, [40])
  data = bytearray(path.read_bytes())
  place = data.index(b'00010') - 12
  data[place] += 1
  path.write_bytes(data)
  (shard,) = index_shards([path])
  assert not shard.complete
  assert len(shard.lengths) == 10
