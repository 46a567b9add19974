"""The form of latency figures; never their size."""

import pytest

from secateurs.utils.deploy import latency
from secateurs.utils.deploy.interpreter import TFLiteModel
from secateurs.utils.deploy.latency import is_settled, measure_latency, summarize


@pytest.fixture
def paths(exported):
  files = exported('residual')[1].files
  return {'float': files['tflite'].path, 'int8': files['tflite_int8'].path}


def test_one_entry_per_file_and_number_of_threads(paths):
  results = measure_latency(paths, nb_frames=12, threads=(1, 2), warmup=1)
  assert list(results) == ['float', 'int8']
  for entries in results.values():
    assert [entry['threads'] for entry in entries] == [1, 2]
    for entry in entries:
      assert set(entry) == {'threads', 'p50_ms', 'p90_ms', 'fps', 'frames'}
      assert entry['frames'] == 12
      assert 0 < entry['p50_ms'] <= entry['p90_ms']
      assert entry['fps'] > 0


def test_files_are_interleaved_and_every_frame_counts(paths, monkeypatch):
  order = []
  invoke = TFLiteModel.invoke_once

  def record(model):
    order.append(model.path.name)
    invoke(model)

  monkeypatch.setattr(TFLiteModel, 'invoke_once', record)
  measure_latency(paths, nb_frames=25, threads=(1,), warmup=2)
  a, b = (path.name for path in paths.values())
  assert order == [a] * 2 + [b] * 2 + ([a] * 11 + [b] * 11) * 2 + [a] * 6 + [b] * 6


def test_summary_by_hand():
  entry = summarize([2_000_000] * 9 + [12_000_000], threads=2)
  p90 = pytest.approx(3.0)
  assert entry == {'threads': 2, 'p50_ms': 2.0, 'p90_ms': p90, 'fps': 500.0, 'frames': 10}


def test_timing_ends_when_all_medians_have_settled(paths, monkeypatch):
  frames = {}

  def time_frames(model, nb_frames):
    done = frames[model.path.name] = frames.get(model.path.name, 0) + nb_frames
    steady = model.path == paths['float'] or done > 80
    return [1_000_000 + (i % 2) * (1000 if steady else 500_000) for i in range(nb_frames)]

  monkeypatch.setattr(latency, '_time_frames', time_frames)
  results = measure_latency(paths, threads=(1,), nb_frames=1000, warmup=0)
  (one,), (other,) = results.values()
  assert one['frames'] == other['frames'] < 1000
  assert other['frames'] > 80


def test_a_median_has_settled_when_its_interval_is_narrow():
  assert not is_settled([100] * 29)
  assert is_settled([100] * 30)
  assert is_settled([1000, 1009] * 20)
  assert not is_settled([1000, 1050] * 20)


@pytest.mark.parametrize('bad', [{'nb_frames': 0}, {'threads': (0,)}, {'threads': ()}])
def test_settings_out_of_range_are_named(bad):
  with pytest.raises(ValueError, match='expected nb_frames >= 1'):
    measure_latency({}, **bad)
