"""What a finished run gives."""

import pytest

from secateurs.learners.run.phases import Result
from secateurs.utils.deploy.files.export_files import ENDINGS
from secateurs.utils.errors import UserError


@pytest.fixture
def files(tmp_path):
  """A file of each format that says which one it is; one is a folder."""
  made = {kind: tmp_path / f'model{ending}' for kind, ending in ENDINGS.items()}
  made['saved_model'].mkdir()
  for kind, path in made.items():
    (path / 'saved_model.pb' if path.is_dir() else path).write_text(kind)
  return made


def test_the_end_of_a_name_says_which_file_is_copied(files, tmp_path):
  result = Result(None, {}, files, tmp_path / 'plan.json')
  found = {}
  for kind, ending in ENDINGS.items():
    path = result.export(tmp_path / 'out' / f'int8{ending}')
    found[kind] = (path / 'saved_model.pb' if path.is_dir() else path).read_text()
  assert found.pop('keras') == 'keras3'  # The Keras that the network came in.
  assert all(kind == content for kind, content in found.items())


def test_a_file_that_was_not_made_is_named(files, tmp_path):
  some = {kind: files[kind] for kind in ('keras', 'tflite')}
  result = Result(None, {}, some, tmp_path / 'plan.json')
  assert result.export(tmp_path / 'small.keras').read_text() == 'keras'
  for name in ('small_fp16.tflite', 'small'):
    with pytest.raises(UserError, match=r'made keras, tflite; .* ends in \.keras or \.tflite'):
      result.export(tmp_path / name)
