"""All files of a run are timed together, on the same cores."""

from pathlib import Path
from types import SimpleNamespace

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.results import formats, latencies
from secateurs.utils.deploy.runtime.latency import measure_latency


def test_files_that_no_block_describes_are_timed_among_the_others(monkeypatch):
  seen, threads = [], []

  def run_of(nb_threads):
    threads.append(nb_threads)
    return lambda: None

  def timed(paths, *, nb_frames, threads):
    seen.append(list(paths))
    return measure_latency(dict.fromkeys(paths, run_of), nb_frames=3, threads=threads)

  monkeypatch.setattr(latencies, 'measure_latency', timed)
  monkeypatch.setattr(latencies, 'require_sound', lambda paths: None)
  blocks = {'compressed': {'tflite_bytes': 1, 'int8': {}}}
  run = RunConfig(bench_cores=1)
  found = latencies.add_latency(
    blocks, {'compressed': Path('m')}, run, {'onnx': run_of, 'tflite_fp16': Path('m_fp16.tflite')}
  )
  assert seen == [[('compressed', 'float'), ('compressed', 'int8'), 'onnx', 'tflite_fp16']]
  assert threads == [1] * 4  # Two would share the core.
  every = (
    *found.values(),
    blocks['compressed']['latency'],
    blocks['compressed']['int8']['latency'],
  )
  assert [entry['cores'] for (entry,) in every] == [1] * 4


def test_the_table_of_files_says_which_medians_have_not_settled(monkeypatch):
  score = SimpleNamespace(score=SimpleNamespace(value=0.5))
  monkeypatch.setattr(formats.measuring, 'evaluate_tflite', lambda *given: score)
  file = SimpleNamespace(path=Path('m'), bytes=1, packed=1)
  kinds = 'keras', 'tflite', 'tflite_fp16', 'pb'
  export = SimpleNamespace(files=dict.fromkeys(kinds, file))

  def latency(ms, settled):
    return [{'threads': n, 'p50_ms': ms / n, 'settled': settled} for n in (2, 1)]

  block = {'score': {'value': 0.75}, 'latency': latency(4.0, True)}
  settings = SimpleNamespace(run=None, helper=None)
  rows = formats.table(settings, export, block, {'tflite_fp16': latency(3.0, False)})
  assert [(row['score'], row['ms'], row['settled']) for row in rows] == [
    (0.75, None, None),
    (0.75, 4.0, True),
    (0.5, 3.0, False),
    (None, None, None),
  ]
