"""Loading .keras files of tf_keras."""

import zipfile

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.keras_archives import load_tf_keras


def test_entries_of_archives_are_read_from_begin_to_end(tmp_path, monkeypatch):
  inputs = keras.Input((8,))
  model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(4)(inputs)))
  model.save(tmp_path / 'net.keras')

  def seek(entry, offset, whence=0):
    raise AssertionError('a step back reads all from the start again')

  opened = zipfile.ZipFile.open
  monkeypatch.setattr(zipfile.ZipExtFile, 'seek', seek)
  again = load_tf_keras(tmp_path / 'net.keras')
  for mine, others in zip(again.get_weights(), model.get_weights(), strict=True):
    np.testing.assert_array_equal(mine, others)
  assert zipfile.ZipFile.open is opened
  with pytest.raises(AssertionError, match='a step back'):
    keras.models.load_model(tmp_path / 'net.keras')


def test_zip_files_open_as_before_after_a_failure(tmp_path):
  opened = zipfile.ZipFile.open
  (tmp_path / 'net.keras').write_bytes(b'no archive')
  with pytest.raises((ValueError, OSError, zipfile.BadZipFile)):
    load_tf_keras(tmp_path / 'net.keras')
  assert zipfile.ZipFile.open is opened
