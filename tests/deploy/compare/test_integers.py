from pathlib import Path

from secateurs.utils.deploy.compare.integers import int8_cells, integer_tables, markdown, way_cells


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


def as_is(net, value, way, int8=None):
  flags = {'enbl_qat': way == 'qat', 'nb_epochs_qat': 0.5}
  steps = {
    'held': [('plain', True)],
    'repaired': [('plain', True), ('equalise', True), ('bias', False)],
  }.get(way)
  repair = None if steps is None else [{'step': name, 'kept': kept} for name, kept in steps]
  compressed = {**block(0.5, 4000), 'int8': block(value, 1000, 2000) | (int8 or {})}
  return {
    'net': net,
    'dataset': 'digits',
    'learner': 'full-prec',
    'flags': flags,
    'int8_repair': repair,
    'compressed': compressed,
  }


def test_networks_as_they_are_have_a_row_for_each_way_to_8_bits():
  reports = [
    as_is('one', 0.5, 'qat', {'divergence': 0.01234, 'npu': {'cycles': 1000}}),
    as_is('two', 0.4, 'held'),
    as_is('one', 0.4, 'plain'),
    as_is('one', 0.45, 'repaired'),
  ]
  header, rows = way_cells(reports)
  assert header == ['network', 'file', 'score', 'divergence', *header[4:]]
  assert [row[:3] for row in rows] == [
    ['one on digits, accuracy', 'float', '50.00 %'],
    ['', 'int8, plain', '40.00 %'],
    ['', 'int8, repaired: equalise', '45.00 %'],
    ['', 'int8, trained for 0.5 epochs', '50.00 %'],
    ['two on digits, accuracy', 'float', '50.00 %'],
    ['', 'int8, plain; nothing to repair', '40.00 %'],
  ]
  assert [row[3] for row in rows] == ['-', '-', '-', '0.012', '-', '-']
  assert [row[-1] for row in rows[1:4]] == ['2,000 (1.00x)', '2,000 (1.00x)', '1,000 (0.50x)']
  assert way_cells([]) == ([], [])


def test_networks_that_were_cut_have_a_table_each():
  whole = as_is('one', 0.4, 'plain')
  cut = {**whole, 'learner': 'l1', 'original': whole['compressed']}
  reports = {Path('a.json'): whole, Path('b.json'): cut, Path('c.json'): {**cut, 'net': 'two'}}
  tables = integer_tables(reports)
  assert [table.splitlines()[0] for table in tables] == [
    '| network | file | score | bytes | latency | arena | NPU cycles |',
    'Float and full-integer files of one on digits:',
    'Float and full-integer files of two on digits:',
  ]
  assert '| b, int8 | 40.00 % |' in tables[1]
  assert integer_tables({Path('b.json'): cut})[0].startswith('Float and full-integer files:')
