#!/usr/bin/env python3
"""Takes the smallest member of every family of keras.applications (Keras 3) in, halves it, and out.

Weights are random, BatchNorm statistics are calibrated on random images, and logits are compared:
  - imported: the tf_keras model with that of Keras 3;
  - sliced: half of the channels of every prunable group are removed at random, the smaller model with
    the masked one;
  - TFLite: the .tflite file with the smaller model;
  - back: the .keras file of Keras 3, loaded by keras, with the .tflite file.
Differences are fractions of the range of the logits. The table goes into docs/keras3.md.

Usage:
  scripts/check_keras3.py [--only NAME ...] [--json FILE] [--docs FILE]
  scripts/check_keras3.py --merge FILE.json ... --docs FILE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('KERAS_BACKEND', 'tensorflow')

import keras as keras3
import numpy as np
import tf_keras
from check_architectures import deviation, random_keep, run_tflite

from secateurs.utils.graph import ChannelGraph, apply_plan, count, masked, plan_slice
from secateurs.utils.keras3 import save_keras3, to_tf_keras
from secateurs.utils.keras3.proof import OF_ROUNDING, rounding
from secateurs.utils.random_inputs import outputs

FAMILIES = {
  'ConvNeXtTiny': 32,
  'DenseNet121': 32,
  'EfficientNetB0': 32,
  'EfficientNetV2B0': 32,
  'InceptionResNetV2': 75,
  'InceptionV3': 75,
  'MobileNet': 32,
  'MobileNetV2': 32,
  'MobileNetV3Small': 32,
  'NASNetMobile': 32,
  'ResNet50': 32,
  'ResNet50V2': 32,
  'VGG16': 32,
  'VGG19': 32,
  'Xception': 71,
}
FAST = ('MobileNetV3Small', 'ConvNeXtTiny')
TOLERANCE = 1e-5
TOLERANCE_FILE = 1e-4
_BEGIN, _END = '<!-- families: begin -->', '<!-- families: end -->'


def build(name: str, size: int) -> tuple[Any, np.ndarray]:
  """The model with logits and weights that tell channels apart, and images [2, size, size, 3]."""
  rng = np.random.default_rng(0)
  keras3.utils.set_random_seed(0)
  options = {'weights': None, 'input_shape': (size, size, 3), 'classes': 10}
  model = getattr(keras3.applications, name)(classifier_activation=None, **options)
  images = rng.uniform(0, 255, (16, size, size, 3)).astype(np.float32)
  norms = [one for one in model.layers if hasattr(one, 'moving_mean')]
  momenta = [one.momentum for one in norms]
  for layer in norms:
    layer.momentum = 0.0
  for layer in model.layers:
    for weight in layer.weights:
      if (
        weight.name == 'gamma'
      ):  # That of ConvNeXt's scale starts at 1e-6, which would hide mistakes.
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
      elif weight.name in ('beta', 'bias'):
        weight.assign(rng.normal(0, 0.2, weight.shape))
  model(images, training=True)  # With momentum 0 the statistics become this batch's.
  for layer, momentum in zip(norms, momenta):
    layer.momentum = momentum
  return model, images[:2]


def check(name: str, folder: Path) -> dict[str, Any]:
  """Checks one family; returns its row of the table."""
  given, images = build(name, FAMILIES[name])
  start = time.perf_counter()
  model = to_tf_keras(given)
  seconds = [time.perf_counter() - start]
  original = outputs(given, [images])
  imported = deviation(original[0], outputs(model, [images])[0])
  graph = ChannelGraph(model)
  plan = plan_slice(graph, random_keep(graph, 0.5, seed=1))
  small = apply_plan(plan)
  with masked(plan):
    expected = outputs(model, [images])[0]
  sliced = deviation(expected, outputs(small, [images])[0])
  lite, _ = run_tflite(small, images)
  seconds.append(time.perf_counter() - start - seconds[0])
  begun = time.perf_counter()
  path = save_keras3(small, folder / f'{name}.keras')
  seconds.append(time.perf_counter() - begun)
  found = outputs(keras3.saving.load_model(path), [images])[0]
  row = {
    'family': name,
    'imported': imported,
    'rounding': rounding(given, [images], original),
    'macs': count(small).macs / graph.counts().macs,
    'sliced': sliced,
    'tflite': deviation(expected, lite),
    'back': deviation(lite, found),
    'seconds': seconds,
  }
  row['passed'] = (
    imported <= max(TOLERANCE, OF_ROUNDING * row['rounding'])
    and sliced <= TOLERANCE
    and max(row['tflite'], row['back']) <= TOLERANCE_FILE
  )
  return row


def markdown(rows: Sequence[dict[str, Any]]) -> str:
  """The table for the documentation."""
  lines = [
    '| model | imported | rounding | MACs left | sliced = masked | TFLite | back in Keras 3 '
    '| seconds: in, cut and TFLite, out |',
    '|---|---|---|---|---|---|---|---|',
  ]
  for row in rows:
    numbers = ' | '.join(_number(row[key]) for key in ('sliced', 'tflite', 'back'))
    times = ', '.join(f'{one:.1f}' for one in row['seconds'])
    lines.append(
      f'| {row["family"]} | {_number(row["imported"])} | {_number(row["rounding"])} '
      f'| {row["macs"]:.0%} | {numbers} | {times} |'
    )
  return '\n'.join(lines)


def _number(value: float) -> str:
  return '0' if value == 0 else f'{value:.0e}'.replace('e-0', 'e-')


def main(argv: Sequence[str] | None = None) -> int:
  """Checks the chosen families; returns 1 if one fails."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--only', nargs='+', choices=list(FAMILIES), metavar='NAME')
  parser.add_argument('--fast', action='store_true', help=f'only {", ".join(FAST)}')
  parser.add_argument('--json', type=Path, help='file for all numbers')
  parser.add_argument('--merge', nargs='+', type=Path, help='only write the table of these files')
  parser.add_argument('--docs', type=Path, help='page whose table is replaced')
  args = parser.parse_args(argv)
  rows = [row for path in args.merge or () for row in json.loads(path.read_text(encoding='utf-8'))]
  rows.sort(key=lambda row: list(FAMILIES).index(row['family']))
  for name in () if args.merge else args.only or (FAST if args.fast else list(FAMILIES)):
    tf_keras.backend.clear_session()
    keras3.utils.clear_session()
    with tempfile.TemporaryDirectory() as folder:
      rows.append(check(name, Path(folder)))
    print(
      markdown(rows[-1:]).splitlines()[-1], 'pass' if rows[-1]['passed'] else 'FAIL', flush=True
    )
  if args.json:
    args.json.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
  if args.docs:
    text = args.docs.read_text(encoding='utf-8')
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    args.docs.write_text(f'{before}{_BEGIN}\n{markdown(rows)}\n{_END}{after}', encoding='utf-8')
  return 0 if all(row['passed'] for row in rows) else 1


if __name__ == '__main__':
  sys.exit(main())
