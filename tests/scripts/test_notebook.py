"""The example notebooks run as they stand, from top to bottom."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / 'nets' / 'examples'


def text_of(cell):
  """What a cell has printed, and its value."""
  parts = []
  for output in cell['outputs']:
    parts.append(output.get('text') or output.get('data', {}).get('text/plain', ''))
  return ''.join(parts)


def executed(name, tmp_path, monkeypatch):
  """The cells of code of a notebook, after it ran."""
  monkeypatch.setenv('TMPDIR', str(tmp_path))  # Where the run's folder is made.
  notebook = nbformat.read(EXAMPLES / name, as_version=4)
  client = NotebookClient(
    notebook, timeout=900, kernel_name='python3', resources={'metadata': {'path': str(tmp_path)}}
  )
  client.execute()
  return [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']


@pytest.mark.parametrize('path', sorted(EXAMPLES.glob('*.ipynb')), ids=lambda path: path.stem)
def test_they_are_kept_without_outputs(path):
  cells = nbformat.read(path, as_version=4)['cells']
  code = [cell for cell in cells if cell['cell_type'] == 'code']
  assert len(code) > 3
  assert [(cell['outputs'], cell['execution_count']) for cell in code] == [([], None)] * len(code)


@pytest.mark.slow
def test_it_compresses_a_model_and_runs_the_file(tmp_path, monkeypatch):
  *_, training, table, file = executed('compress_your_model.ipynb', tmp_path, monkeypatch)
  assert 'prune  layer' in text_of(training)
  assert re.search(r'finetune  step \d+/\d+  loss .*confidence', text_of(training))
  assert re.search(r'^confidence +0\.\d+ ', text_of(training), flags=re.MULTILINE)
  before, after = re.search(r'^macs +(\S+) +(\S+)$', text_of(table), flags=re.MULTILINE).groups()
  assert float(after) < 0.5 * float(before)
  accuracy = float(re.search(r'small\.tflite: .* kB, accuracy (\S+) %', text_of(file))[1])
  assert accuracy > 80
  assert list(tmp_path.glob('digits_net_*/logs/chn-pruned/report.html'))
  assert (tmp_path / 'small.tflite').stat().st_size < 60_000


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_chain_on_a_u_net_gives_the_mean_iou_at_each_link(tmp_path, monkeypatch):
  *_, table = executed('segment_animals.ipynb', tmp_path, monkeypatch)
  row = r'^(\S.*?) +mean IoU (\S+) %  (\S+) kB, (\S+) kB gzipped$'
  found = re.findall(row, text_of(table), flags=re.MULTILINE)
  assert [name for name, *_ in found] == [
    'original',
    'slim',
    'slim, sparse',
    'slim, sparse, int8',
  ]
  ious, sizes, gzipped = ([float(one[place]) for one in found] for place in (1, 2, 3))
  assert ious[0] > 70
  assert min(ious) > ious[0] - 8
  assert sizes[3] < 0.5 * sizes[1] < 0.5 * sizes[0]
  assert gzipped[2] < 0.7 * gzipped[1]
  page = next(tmp_path.glob('animals_*/sparse/logs/weight-sparse/report.html')).read_text()
  assert 'data:image/png;base64' in page


@pytest.mark.slow
@pytest.mark.exhaustive
def test_regression_on_tables_and_signals(tmp_path, monkeypatch):
  *_, table = executed('predict_power.ipynb', tmp_path, monkeypatch)
  found = re.findall(
    r'^(\w+): MAE (\S+) -> (\S+), (\S+)x MACs$', text_of(table), flags=re.MULTILINE
  )
  assert [name for name, *_ in found] == ['table', 'signal']
  for _, before, after, share in found:
    assert float(after) < 1.3 * float(before)
    assert float(share) < 0.75
