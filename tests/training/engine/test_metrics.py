import io
import json

import pytest

from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.metrics import MetricsWriter
from secateurs.utils.training.engine.progress import Progress, format_seconds


def lines(folder):
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_lines_and_events(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.write('fit', 10, {'loss': 1.5, 'speed': None, 'bad': float('nan')})
  writer.write('fit', 20, {'loss': 1.0})
  assert lines(tmp_path) == [
    {'phase': 'fit', 'step': 10, 'loss': 1.5},
    {'phase': 'fit', 'step': 20, 'loss': 1.0},
  ]
  assert list(tmp_path.glob('events.out.tfevents.*'))


def test_a_resumed_phase_is_not_told_twice(tmp_path):
  writer = MetricsWriter(tmp_path)
  for step in (10, 20, 30):
    writer.write('fit', step, {'loss': 1.0})
  writer.write('other', 30, {'loss': 1.0})
  with (tmp_path / 'metrics.jsonl').open('ab') as file:  # Damaged lines, and a torn one.
    file.write(b'{"ph\xff": 1, "phase": "fit", "step": []}\n[]\n' + b'[' * 99_999 + b'\n')
    file.write(b'{"phase": "fit", "st')
  writer.forget('fit', 20)
  assert [(e['phase'], e['step']) for e in lines(tmp_path)] == [
    ('fit', 10),
    ('fit', 20),
    ('other', 30),
  ]


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='could not be written'):
    MetricsWriter(tmp_path / 'file').write('fit', 1, {'loss': 1.0})


def test_plain_lines_where_there_is_no_terminal():
  stream = io.StringIO()
  progress = Progress('fit', 0, 100, batch_size=8, stream=stream, percent=['accuracy'])
  progress.update(1, {'loss': 2.0})
  progress.update(50, {'loss': 1.0})
  progress.summary(50, {'loss': 1.0, 'accuracy': 0.5, 'sparsity': 0.25})
  progress.close()
  text = stream.getvalue()
  assert text.startswith('fit  step 50/100  loss 1.0000  accuracy 50.00 %  sparsity 25.0 %')
  assert 'images/s' in text
  assert 'ETA' in text
  assert text.count('\n') == 1


def test_a_bar_on_a_terminal():
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  stream = Terminal()
  progress = Progress('fit', 40, 100, batch_size=8, stream=stream, percent=['accuracy'])
  progress.update(60, {'loss': 1.0})
  progress.summary(60, {'loss': 1.0})
  progress.update(100, {'loss': 0.5})
  progress.close()
  assert '100/100' in stream.getvalue()
  assert 'loss 0.5000' in stream.getvalue()


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [(0.2, '0 s'), (59.4, '59 s'), (60, '1 min 00 s'), (3661, '1 h 01 min')],
)
def test_format_seconds(seconds, text):
  assert format_seconds(seconds) == text
