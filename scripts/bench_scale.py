"""How time and memory grow: each phase of a run against images, image size, batch, depth and width.

Usage: python scripts/bench_scale.py [--learner dis-chn-pruned] [--factors images,batch] [--out FILE]

Each factor is varied alone around one small run; every run is a separate process. Printed are seconds
and peak memory of each phase, and the exponent e of growth ~ factor^e, fit to them by least squares of
logarithms (of memory: beyond what the process held before the run).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

BASE = {'images': 128, 'size': 32, 'batch': 16, 'depth': 4, 'width': 16}
FACTORS = {
  'images': (128, 512, 2048),
  'size': (16, 32, 64),
  'batch': (16, 32, 64),
  'depth': (2, 4, 8),
  'width': (8, 16, 32),
}
NB_CLASSES, NB_EVAL = 4, 32


def main() -> None:
  """Runs all points and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--learner', default='dis-chn-pruned')
  parser.add_argument('--factors', default=','.join(FACTORS), help='with commas between them')
  parser.add_argument('--out', help='file for the table in Markdown')
  parser.add_argument('--point', help='run one point, given as JSON, and print its phases')
  args = parser.parse_args()
  if args.point:
    print(json.dumps(run(args.learner, json.loads(args.point))))
    return
  lines = [
    '| factor | phase | seconds at each value | exponent | peak MB at each value | exponent |'
  ]
  lines += ['|---|---|---|---|---|---|']
  known: dict[str, dict] = {}
  for factor in args.factors.split(','):
    values = FACTORS[factor]
    points = [{**BASE, factor: value} for value in values]
    for point in points:
      key = json.dumps(point)
      if key not in known:
        known[key] = measured(args.learner, key)
    lines += rows(factor, values, [known[json.dumps(point)] for point in points])
  table = '\n'.join(lines)
  print(table)
  if args.out:
    Path(args.out).write_text(table + '\n', encoding='utf-8')


def measured(learner: str, point: str) -> dict:
  """Phases of a run in a separate process: name -> [seconds, peak MB]."""
  command = [sys.executable, __file__, '--learner', learner, '--point', point]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  print(point, flush=True)
  return json.loads(done.stdout.splitlines()[-1])


def rows(factor: str, values: tuple[int, ...], runs: list[dict]) -> list[str]:
  """A line of the table for each phase that all runs have."""
  found = []
  for phase in runs[0]:
    if phase != 'empty' and all(phase in one for one in runs):
      seconds = [one[phase][0] for one in runs]
      peaks = [one[phase][1] for one in runs]
      beyond = [peak - one['empty'][1] for peak, one in zip(peaks, runs, strict=True)]
      found.append(
        f'| {factor} {", ".join(map(str, values))} | {phase} '
        f'| {", ".join(f"{s:.1f}" for s in seconds)} | {exponent(values, seconds):.2f} '
        f'| {", ".join(f"{p:.0f}" for p in peaks)} | {exponent(values, beyond):.2f} |'
      )
  return found


def exponent(values: tuple[int, ...], measured: list[float]) -> float:
  """The slope of the logarithms."""
  return float(np.polyfit(np.log(values), np.log(np.maximum(measured, 1e-3)), 1)[0])


def run(learner: str, point: dict) -> dict:
  """Runs a learner on made-up photographs; name -> [seconds, peak MB]."""
  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  from secateurs.learners import get_learner
  from secateurs.learners.run.configs import RunConfig, TrainConfig
  from secateurs.nets.datasets import image_folder
  from secateurs.nets.datasets.image_folder import ImageFolderConfig
  from secateurs.nets.model_helper import ModelHelper
  from secateurs.utils import memory

  size, shape = point['size'], (point['size'], point['size'], 3)
  with tempfile.TemporaryDirectory() as folder:
    photographs(Path(folder) / 'photos', point['images'], size)
    image_folder._CACHE_BYTES = 0  # Photographs are read as those of a large folder are.
    data = image_folder.load(
      ImageFolderConfig(data_dir_local=f'{folder}/photos', image_size=size), shape
    )
    model = network(shape, point['depth'], point['width'])
    helper = ModelHelper.from_model(model, data)
    empty = memory.resident() / memory.MEGABYTE
    cls = get_learner(learner)
    one = cls(
      helper,
      settings_of(cls, point['batch']),
      run=RunConfig(run_dir=f'{folder}/run', bench_frames=30, bench_threads='1'),
      training=TrainConfig(batch_size=point['batch'], nb_epochs_ft=1.0),
    )
    report = one.train().report
  phases = {
    phase['name']: [phase['seconds'], phase['peak_mb'] or empty] for phase in report['phases']
  }
  return {'empty': [0.0, empty], **phases}


def settings_of(cls: type, batch: int) -> object:
  """Hyper-parameters with which a run is short, of those that the learner has."""
  wanted = {
    'batch_size': batch,
    'nb_iters_block': 4,
    'nb_iters_layer': 2,
    'chns_per_step': 4,
    'nb_batches_score': 4,
  }
  fields = cls.Config.__dataclass_fields__
  return cls.Config(**{name: value for name, value in wanted.items() if name in fields})


def photographs(folder: Path, nb_images: int, size: int) -> None:
  """Makes JPEG files of noise, of four classes; evaluation images stay as many."""
  from PIL import Image

  rng = np.random.default_rng(0)
  for part, count in (('train', nb_images), ('val', NB_EVAL)):
    for number in range(count):
      path = folder / part / str(number % NB_CLASSES) / f'{number}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(path)


def network(shape: tuple[int, int, int], depth: int, width: int):  # noqa: ANN201
  """Residual blocks of two convolutions."""
  import tf_keras as keras

  layers = keras.layers
  x = inputs = layers.Input(shape)
  x = layers.Conv2D(width, 3, padding='same')(x)
  for _ in range(depth):
    y = x
    for _ in range(2):
      y = layers.Conv2D(width, 3, padding='same', use_bias=False)(y)
      y = layers.ReLU()(layers.BatchNormalization()(y))
    x = layers.Add()([x, y])
  x = layers.GlobalAveragePooling2D()(x)
  return keras.Model(inputs, layers.Dense(NB_CLASSES)(x))


if __name__ == '__main__':
  main()
