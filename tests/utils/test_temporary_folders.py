"""Temporary folders of killed processes are removed by the next one."""

import os
import tempfile

from secateurs.utils.temporary_folders import held_folder, remove_abandoned


def test_folders_of_dead_processes_go_and_others_stay(tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  dead, young = tmp_path / 'secateurs-held-dead', tmp_path / 'secateurs-held-young'
  for folder in (dead, young, tmp_path / 'other'):
    folder.mkdir()
    (folder / 'weights').write_bytes(b'x')
  os.utime(dead, (0, 0))
  os.utime(tmp_path / 'other', (0, 0))
  with held_folder() as held:
    assert not dead.exists()
    os.utime(held.parent, (0, 0))
    remove_abandoned()
    assert held.is_dir()
  assert sorted(path.name for path in tmp_path.iterdir()) == ['other', young.name]
