"""Exports that a later run finds again."""

import shutil

import numpy as np
import pytest

from secateurs.utils.deploy.files import kept


@pytest.fixture
def export(exported, monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(kept, '_LEAST_SECONDS', 0.0)
  return exported('residual')


def test_files_come_back_with_what_is_known_of_them(export, tmp_path):
  model, before = export
  images = np.zeros((2, 8, 8, 3), np.float32)
  key = kept.fingerprint(model, True, images)
  assert kept.find(key, tmp_path / 'a' / 'original') is None
  kept.keep(key, before)
  found = kept.find(key, tmp_path / 'a' / 'original')
  assert found.parity_figures() == before.parity_figures()
  assert set(found.files) == set(before.files)
  for kind, file in found.files.items():
    assert file.path.parent == tmp_path / 'a'
    assert file.path.read_bytes() == before.files[kind].path.read_bytes()
    assert file.gzip_bytes == before.files[kind].gzip_bytes


def test_another_network_and_other_images_have_other_keys(export, monkeypatch):
  model, _ = export
  images = np.zeros((2, 8, 8, 3), np.float32)
  key = kept.fingerprint(model, False, images)
  assert key == kept.fingerprint(model, False, images)
  assert key != kept.fingerprint(model, True, images)
  assert key != kept.fingerprint(model, False, images + 1)
  with monkeypatch.context() as patch:
    patch.setattr(kept.metadata, 'version', lambda name: f'{name} 9')
    assert key != kept.fingerprint(model, False, images)
  weight = model.weights[0]
  value = weight.numpy()
  weight.assign(value + 1)
  assert key != kept.fingerprint(model, False, images)
  weight.assign(value)


def test_a_folder_that_goes_while_it_is_read_is_none(export, tmp_path, monkeypatch):
  _model, before = export
  kept.keep('first', before)
  file = kept._file

  def gone(prefix, kind, values):
    """Another process forgets it after its record and sizes were read."""
    monkeypatch.setattr(kept, 'all', lambda checks: [*checks] and not shutil.rmtree(folder), False)
    return file(prefix, kind, values)

  folder = tmp_path / 'cache' / 'secateurs' / 'originals' / 'first'
  monkeypatch.setattr(kept, '_file', gone)
  assert kept.find('first', tmp_path / 'again') is None
  assert not folder.exists()


def test_a_torn_file_is_exported_again_and_the_oldest_go(export, tmp_path, monkeypatch):
  _model, before = export
  kept.keep('first', before)
  root = tmp_path / 'cache' / 'secateurs' / 'originals'
  (root / 'first' / 'tflite').write_bytes(b'torn')
  assert kept.find('first', tmp_path / 'again') is None
  monkeypatch.setattr(kept, '_MAX_BYTES', 1)
  kept.keep('second', before)
  assert not list(root.iterdir())
