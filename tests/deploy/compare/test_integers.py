from pathlib import Path

from secateurs.utils.deploy.compare.integers import int8_cells, markdown


def block(value, size, cycles=None):
  score = {'name': 'accuracy', 'value': value, 'unit': 'percent', 'higher_is_better': True}
  made = {'score': score, 'latency': [{'threads': 1, 'p50_ms': 0.25}]}
  if cycles is None:
    return {**made, 'tflite_bytes': size}
  return {**made, 'bytes': size, 'arena_bytes': 2000, 'npu': {'cycles': cycles}}


def test_float_and_integer_files_are_rows():
  original = {**block(0.5, 4000), 'int8': block(0.4, 1000, 2000)}
  reports = {
    Path('runs/cut.json'): {
      'original': original,
      'compressed': {**block(0.48, 2000), 'int8': block(0.475, 500, 1000)},
    },
    Path('runs/float.json'): {'original': original, 'compressed': block(0.3, 1000)},
  }
  header, rows = int8_cells(reports)
  assert [row[0] for row in rows] == [
    'original, float',
    'original, int8',
    'cut, float',
    'cut, int8',
  ]
  assert rows[3][1:] == ['47.50 %', '500 B', '0.250 ms', '2.0 kB', '1,000 (0.50x)']
  assert rows[0][-2:] == ['-', '-']
  assert markdown(header, rows[:1]).splitlines()[1] == '| --- | --- | --- | --- | --- | --- |'
  assert int8_cells({Path('runs/float.json'): reports[Path('runs/float.json')]}) == ([], [])


def test_what_nothing_is_known_of_is_no_column():
  both = {**block(0.5, 4000), 'int8': block(0.4, 1000)}
  header, rows = int8_cells({Path('runs/cut.json'): {'original': both, 'compressed': both}})
  assert header == ['', 'accuracy', 'bytes', 'latency']
  assert rows[1] == ['original, int8', '40.00 %', '1.0 kB', '0.250 ms']
