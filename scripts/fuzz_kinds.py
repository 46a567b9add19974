"""Kinds of files that the project reads: how a good one is made, and what reads it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fuzz_data
import fuzz_networks
import numpy as np


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of file.

  Attributes:
    make: writes a good one into a folder and returns the path of the file that is damaged.
    read: what the project reads it with; its result is compared.
    sums: whether the format has checksums, so that a damaged file may give nothing else.
    refusals: what else counts as a refusal, where the caller turns it into a sentence.
    together: how many damaged files are read at once.
    read_together: reads so many, where a process or a pipeline for each would take most of the time.
  """

  make: Callable[[Path], Path]
  read: Callable[[Path], Any]
  sums: bool = False
  refusals: tuple[type[Exception], ...] = ()
  together: int = 1
  read_together: Callable[[Path, Sequence[bytes]], Sequence[Any]] | None = None

  def read_all(self, path: Path, contents: Sequence[bytes]) -> Sequence[Any]:
    """What each content is read as in the place of a file, or the exception that it ends in."""
    if self.read_together is not None:
      return self.read_together(path, contents)
    return [fuzz_data.tried(self.read, path, content) for content in contents]


def kinds() -> dict[str, Kind]:
  """All kinds by name."""
  from secateurs.learners.run.chain import read_chain
  from secateurs.learners.run.layer_choice import read_layers
  from secateurs.learners.run.results.plans import read_plan
  from secateurs.learners.run.training.trials import Trial
  from secateurs.nets.datasets.array_files import load as load_arrays
  from secateurs.utils.deploy.latency_table.table import read_table
  from secateurs.utils.deploy.packed.network import read as read_packed
  from secateurs.utils.deploy.pages.report import read_report
  from secateurs.utils.deploy.reports.metrics import read_metrics
  from secateurs.utils.json_lines import read_records
  from secateurs.utils.model_files import load_model

  return {
    'npz': Kind(_npz, _into_variables, sums=True),
    'arrays': Kind(_arrays, lambda path: load_arrays(path.parent), sums=True),
    'keras': Kind(_keras, load_model, sums=True),
    'h5': Kind(_h5, fuzz_networks.load_h5),
    'checkpoint': Kind(_checkpoint('index'), _weights_of, sums=True),
    'checkpoint_data': Kind(_checkpoint('data*'), _weights_of, sums=True),
    'resumed_index': Kind(fuzz_networks.checkpoint('index'), fuzz_networks.resume, sums=True),
    'resumed_data': Kind(fuzz_networks.checkpoint('data*'), fuzz_networks.resume, sums=True),
    'resumed_json': Kind(fuzz_networks.checkpoint('json'), fuzz_networks.resume, sums=True),
    'tflite': _tflite(fuzz_networks.run_tflite, int8=False),
    'tflite_int8': _tflite(fuzz_networks.run_tflite, int8=True),
    'tflite_verified': _tflite(fuzz_networks.verify_tflite, int8=True),
    'packed': Kind(_packed, read_packed, sums=True),
    'report': Kind(_report, read_report, refusals=(ValueError,)),
    'plan': Kind(_plan, read_plan),
    'trials': Kind(_trials, lambda path: read_records(path, Trial)),
    'metrics': Kind(_lines({'phase': 'train', 'step': 3, 'loss': 0.5}), read_metrics),
    'latency_table': Kind(_table, read_table),
    'layers': Kind(_text(_LAYERS), lambda path: read_layers(str(path))),
    'chain': Kind(_text(_CHAIN), lambda path: read_chain(str(path))),
    'jpg': Kind(fuzz_data.image_file('jpg'), fuzz_data.images),
    'png': Kind(fuzz_data.image_file('png'), fuzz_data.images),
    'records': Kind(
      fuzz_data.records,
      fuzz_data.read_records,  # With sums, but one cut off between two records is whole again.
      together=_TOGETHER,
      read_together=fuzz_data.read_shards,
    ),
    'cifar10': Kind(fuzz_data.cifar10, fuzz_data.read_cifar10),
    'cifar10_of_python': Kind(fuzz_data.cifar10_of_python, fuzz_data.read_cifar10),
  }


_TOGETHER = 25
_LAYERS = 'skip: [conv1, stage*]\nfloors:\n  conv2: 0.25\nratios: {conv3: 0.5}\n'
_CHAIN = (
  'links:\n- learner: chn-pruned\n  epochs: 1\n  flags: {cp_preserve_ratio: 0.5}\n- weight-sparse\n'
)


def _tflite(read: Callable[[Path], Any], *, int8: bool) -> Kind:
  """Files of which many are tried in one process, before they are opened here."""
  return Kind(
    fuzz_networks.tflite(int8=int8),
    read,
    together=_TOGETHER,
    read_together=fuzz_networks.together(read),
  )


def _npz(folder: Path) -> Path:
  rng = np.random.default_rng(0)
  path = folder / 'weights.npz'
  np.savez(
    path, **{f'layer{i}/kernel': rng.normal(size=(3, 4)).astype(np.float32) for i in range(4)}
  )
  return path


def _into_variables(path: Path) -> dict[str, np.ndarray]:
  """As a network takes them, whose names they must have: those are not among what the sums are of."""
  import tensorflow as tf

  from secateurs.utils.training.models.weight_files import read_weights
  from secateurs.utils.training.models.weights import assign_weights

  variables = {f'layer{i}/kernel': tf.Variable(tf.zeros((3, 4))) for i in range(4)}
  assign_weights(variables, read_weights(path), str(path))
  return {name: variable.numpy() for name, variable in variables.items()}


def _arrays(folder: Path) -> Path:
  rng = np.random.default_rng(0)
  for name in ('train', 'test'):
    np.savez(folder / f'{name}.npz', x=rng.normal(size=(8, 3)), y=np.arange(8))
  return folder / 'train.npz'


def _network() -> Any:
  import tf_keras as keras

  keras.utils.set_random_seed(0)
  layers = keras.layers
  return keras.Sequential(
    [keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)]
  )


def _keras(folder: Path) -> Path:
  _network().save(folder / 'm.keras')
  return folder / 'm.keras'


def _h5(folder: Path) -> Path:
  _network().save(folder / 'm.h5')
  return folder / 'm.h5'


def _checkpoint(ending: str) -> Callable[[Path], Path]:
  def make(folder: Path) -> Path:
    from secateurs.utils.training.models.checkpoints import CheckpointStore
    from secateurs.utils.training.models.weights import named_weights

    CheckpointStore(folder / 'model.ckpt').save({'model': named_weights(_network())}, {'step': 1})
    (path,) = folder.glob(f'*.{ending}')
    for record in folder.glob('*.json'):  # As where the files alone were copied.
      record.unlink()
    return path

  return make


def _weights_of(path: Path) -> dict[str, np.ndarray]:
  """Of a checkpoint whose number is given."""
  from secateurs.utils.training.models.weight_files import read_weights

  return read_weights(path.with_suffix(''))


def _packed(folder: Path) -> Path:
  from secateurs.utils.deploy.packed.network import pack

  path = folder / 'm.dc'
  path.write_bytes(pack(_network(), {}))
  return path


def _plan(folder: Path) -> Path:
  from secateurs.learners.run.results.plans import (
    ChannelCut,
    CutPlan,
    ZeroCut,
    structure,
    write_plan,
  )

  cut = ChannelCut('conv2d', 'output', 3, [0, 2])
  plan = CutPlan(
    'chn-pruned', None, 'net', structure(_network()), [cut], {'dense': ZeroCut(96, 48)}
  )
  path = folder / 'plan.json'
  write_plan(plan, path)
  return path


def _table(folder: Path) -> Path:
  from secateurs.utils.deploy.latency_table.table import LatencyTable, Scale, SegmentTimes

  times = SegmentTimes('conv', [1, 2], [1, 2], [[0.1, 0.2], [0.2, 0.3]])
  scale = Scale(1.0, 0.01, [0.5], [0.51])
  table = LatencyTable('cpu', 'litert 2', 1, 'float', 0.001, {'conv': times}, {'net': scale})
  return _text(json.dumps(dataclasses.asdict(table), indent=1))(folder)


def _report(folder: Path) -> Path:
  sys.path.insert(0, str(Path(__file__).parents[1] / 'tests' / 'deploy'))
  from sample_report import sample_report

  path = folder / 'report.json'
  path.write_text(json.dumps(sample_report(), indent=2), encoding='utf-8')
  return path


def _trials(folder: Path) -> Path:
  from secateurs.learners.run.training.trials import Trial
  from secateurs.utils.json_lines import write_records

  path = folder / 'search.jsonl'
  write_records(path, [Trial(i, {'a': 0.5}, {'a': 3 + i}, 70, 0.5) for i in range(5)])
  return path


def _lines(value: dict) -> Callable[[Path], Path]:
  return _text(''.join(json.dumps(value) + '\n' for _ in range(5)))


def _text(text: str) -> Callable[[Path], Path]:
  def make(folder: Path) -> Path:
    path = folder / 'file.json'
    path.write_text(text, encoding='utf-8')
    return path

  return make
