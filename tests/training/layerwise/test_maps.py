"""Feature maps in memory and in files: the same values, and the room that is there."""

import numpy as np
import pytest
import tensorflow as tf

from secateurs.utils.errors import UserError
from secateurs.utils.training.layerwise import maps as maps_module
from secateurs.utils.training.layerwise.maps import Maps, MapStore, as_half


def filled(store, values):
  maps = store.new(values.shape[1:])
  for first in range(0, len(values), 4):
    maps.append(values[first : first + 4])
  return maps


@pytest.mark.parametrize('room', [None, 0, 300], ids=['memory', 'files', 'both'])
def test_samples_come_back_from_wherever_they_are(room, tmp_path):
  values = np.random.default_rng(0).normal(size=(10, 3, 3, 2)).astype(np.float32)
  store = MapStore(room, tmp_path)
  maps = filled(store, values)
  half = values.astype(np.float16)
  assert len(maps) == 10
  assert maps.dtype == np.float16
  np.testing.assert_array_equal(maps.whole(), half)
  np.testing.assert_array_equal(maps[2:7], half[2:7])
  places = np.array([9, 0, 4, 4, 3])
  np.testing.assert_array_equal(maps.take(places), half[places])
  gathered = tf.function(lambda i: maps.gather(i, tf.float32))(tf.constant(places, tf.int32))
  np.testing.assert_array_equal(gathered, half[places].astype(np.float32))
  assert store.used + store.on_disk == half.nbytes
  assert room is None or store.used <= room
  assert not list(tmp_path.iterdir())  # Files without a name vanish with the process.
  maps.clear()
  assert store.used == store.on_disk == 0


def test_what_float16_cannot_hold_stays_as_it_is(tmp_path):
  values = np.ones((8, 5), np.float32)
  values[5, 2] = 1e5
  for room in (None, 0):
    maps = filled(MapStore(room, tmp_path), values)
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps.take(np.array([5, 1])), values[[5, 1]])


def test_a_disk_without_room_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(maps_module, '_MARGIN', 1 << 60)
  with pytest.raises(UserError, match=r'MB are left there: free some space.*--max_memory_mb'):
    filled(MapStore(0, tmp_path), np.ones((4, 5), np.float32))


@pytest.mark.parametrize('odd', [7e4, -7e4, np.inf, -np.inf, np.nan, 65504.0, -65504.0, 0.0])
def test_what_float16_cannot_hold_stays_float32(odd):
  values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
  values[1, 2] = odd
  fits = bool(np.isfinite(values.astype(np.float16)).all())
  for array, tensor in ((values, tf.constant(values)), (values[:, ::2], None)):
    half = as_half(array)
    assert half.dtype == (np.float16 if fits else np.float32)
    maps = Maps(MapStore(), (4,))
    if tensor is None:
      maps.append(array)
    else:
      maps.append_tensor(tensor)
    np.testing.assert_array_equal(maps.whole(), half)
