"""The example notebook runs as it stands, from top to bottom."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / 'nets' / 'examples' / 'compress_your_model.ipynb'


def text_of(cell):
  """What a cell has printed, and its value."""
  parts = []
  for output in cell['outputs']:
    parts.append(output.get('text') or output.get('data', {}).get('text/plain', ''))
  return ''.join(parts)


def test_it_is_kept_without_outputs():
  cells = nbformat.read(NOTEBOOK, as_version=4)['cells']
  code = [cell for cell in cells if cell['cell_type'] == 'code']
  assert len(code) > 3
  assert [(cell['outputs'], cell['execution_count']) for cell in code] == [([], None)] * len(code)


@pytest.mark.slow
def test_it_compresses_a_model_and_runs_the_file(tmp_path, monkeypatch):
  monkeypatch.setenv('TMPDIR', str(tmp_path))  # Where the run's folder is made.
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  client = NotebookClient(
    notebook, timeout=600, kernel_name='python3', resources={'metadata': {'path': str(tmp_path)}}
  )
  client.execute()
  *_, training, table, file = [c for c in notebook['cells'] if c['cell_type'] == 'code']
  assert 'prune  layer' in text_of(training)
  assert re.search(r'finetune  step \d+/\d+  loss .*confidence', text_of(training))
  assert re.search(r'^confidence +0\.\d+ ', text_of(training), flags=re.MULTILINE)
  before, after = re.search(r'^macs +(\S+) +(\S+)$', text_of(table), flags=re.MULTILINE).groups()
  assert float(after) < 0.5 * float(before)
  accuracy = float(re.search(r'small\.tflite: .* kB, accuracy (\S+) %', text_of(file))[1])
  assert accuracy > 80
  assert list(tmp_path.glob('digits_net_*/logs/chn-pruned/report.html'))
  assert (tmp_path / 'small.tflite').stat().st_size < 60_000
