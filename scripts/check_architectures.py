#!/usr/bin/env python3
"""Slices the smallest member of every family of tf_keras.applications and checks the results.

Weights are random, BatchNorm statistics are calibrated on random images, and logits are compared. 30 %
and 60 % of the channels of every prunable group are removed at random; the sliced model must then
  - equal the masked model (max abs difference <= 1e-4 of the output's range), while the same model
    with one wrong slice must not;
  - load in a fresh process with tf_keras alone and give the same logits;
  - convert to TFLite, give the same logits there, and have the MACs that count() reports.

Usage:
  scripts/check_architectures.py [--only NAME ...] [--size PIXELS] [--json FILE] [--markdown FILE]
  scripts/check_architectures.py --merge FILE.json ...

MACs, groups and fractions in the table are those of the default input size; --size makes the
comparison of logits cheaper. `--fast` is the subset that continuous integration runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.runtime.interpreter import open_interpreter
from secateurs.utils.graph import (
  ChannelGraph,
  apply_plan,
  count,
  masked,
  plan_cost,
  plan_slice,
  save_model,
)

# The smallest member of each family, with its default input size.
ARCHITECTURES = {
  'VGG16': 224,
  'ResNet50': 224,
  'ResNet50V2': 224,
  'ResNetRS50': 224,
  'InceptionV3': 299,
  'InceptionResNetV2': 299,
  'Xception': 299,
  'DenseNet121': 224,
  'NASNetMobile': 224,
  'MobileNet': 224,
  'MobileNetV2': 224,
  'MobileNetV3Small': 224,
  'EfficientNetB0': 224,
  'EfficientNetV2B0': 224,
  'ConvNeXtTiny': 224,
  'RegNetX002': 224,
  'RegNetY002': 224,
}
FAST = (
  'ResNet50V2',
  'MobileNetV2',
  'EfficientNetB0',
  'MobileNet',
)
RATIOS = (0.3, 0.6)
TOLERANCE = 1e-4
_SHOWN = ('sliced', 'reloaded', 'tflite')

_RELOAD = """
import sys
import numpy as np
import tf_keras
images = np.load(sys.argv[1])
for path in sys.argv[2:]:
  model = tf_keras.models.load_model(path)
  np.save(path + '.npy', model(images, training=False).numpy())
assert not any(name.startswith('secateurs') for name in sys.modules)
"""


def build(name: str, size: int, seed: int = 0) -> tuple[keras.Model, np.ndarray]:
  """Returns the architecture with logits and non-trivial weights, and images [2, size, size, 3]."""
  rng = np.random.default_rng(seed)
  keras.utils.set_random_seed(seed)
  options = {'weights': None, 'input_shape': (size, size, 3), 'classifier_activation': None}
  model = getattr(keras.applications, name)(**options)
  images = rng.uniform(0, 255, (2, size, size, 3)).astype(np.float32)
  normalised = [one for one in model.layers if hasattr(one, 'moving_mean')]
  momenta = [one.momentum for one in normalised]
  for layer in normalised:
    if layer.gamma is not None:
      layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
    if layer.beta is not None:
      layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
    layer.momentum = 0.0
  for layer in model.layers:
    if type(layer).__name__ == 'LayerScale':  # starts at 1e-6, which would hide every mistake
      layer.gamma.assign(rng.uniform(0.2, 0.6, layer.gamma.shape))
    bias = getattr(layer, 'bias', None)
    if bias is not None:
      bias.assign(rng.normal(0, 0.1, bias.shape))
  model(images, training=True)  # with momentum 0 the statistics become this batch's
  for layer, momentum in zip(normalised, momenta):
    layer.momentum = momentum
  return model, images


def random_keep(graph: ChannelGraph, ratio: float, seed: int) -> dict[int, np.ndarray]:
  """Removes `ratio` of the free elements of every prunable group; at least one stays."""
  rng = np.random.default_rng(seed)
  keep = {}
  for group in graph.groups:
    if group.prunable:
      free = rng.permutation(np.flatnonzero(group.free))
      mask = np.ones(group.size, bool)
      mask[free[: min(round(ratio * group.size), group.size - 1)]] = False
      keep[group.index] = mask
  return keep


def deviation(expected: np.ndarray, got: np.ndarray) -> float:
  """Max abs difference divided by the range of the expected values; infinite if shapes differ."""
  if expected.shape != got.shape or not np.isfinite(got).all():
    return float('inf')
  return float(np.abs(expected - got).max() / np.ptp(expected))


def sabotage(small: keras.Model) -> None:
  """Shifts the input rows of one kernel in the middle by one, like an off-by-one index."""
  kernels = [
    layer
    for layer in small.layers
    if type(layer) in (keras.layers.Conv2D, keras.layers.Dense, keras.layers.SeparableConv2D)
    and (getattr(layer, 'kernel', None) if hasattr(layer, 'kernel') else None) is not None
    and layer.kernel.shape[-2] > 1
    and getattr(layer, 'groups', 1) == 1
  ]
  variable = kernels[len(kernels) // 2].kernel
  variable.assign(np.roll(variable.numpy(), 1, axis=-2))


def tflite_macs(interpreter: Any) -> int:
  """Multiply-adds of the convolutions and dense layers in a TFLite graph, for one sample."""
  shapes = {one['index']: one['shape'] for one in interpreter.get_tensor_details()}
  macs = 0
  for op in interpreter._get_ops_details():
    out = shapes[op['outputs'][0]]
    kernel = shapes[op['inputs'][1]] if len(op['inputs']) > 1 else None
    if op['op_name'] == 'CONV_2D' or op['op_name'] == 'DEPTHWISE_CONV_2D':
      macs += int(np.prod(out[:-1]) * np.prod(kernel))
    elif op['op_name'] == 'FULLY_CONNECTED':
      macs += int(np.prod(out) // kernel[0] * np.prod(kernel))
  return macs


def run_tflite(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, int]:
  """Converts with batch size 1; returns logits and the MACs of the file's graph."""
  spec = tf.TensorSpec((1, *images.shape[1:]), tf.float32)
  function = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
  content = tf.lite.TFLiteConverter.from_concrete_functions([function], model).convert()
  interpreter = open_interpreter(content, reference=False)
  interpreter.allocate_tensors()
  rows = []
  for image in images:
    interpreter.set_tensor(interpreter.get_input_details()[0]['index'], image[None])
    interpreter.invoke()
    rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]['index'])[0])
  return np.stack(rows), tflite_macs(interpreter)


def check(name: str, size: int | None, folder: Path) -> dict[str, Any]:
  """Checks one architecture; returns its row of the table."""
  start = time.perf_counter()
  default = ARCHITECTURES[name]
  model, images = build(name, size or default)
  graph = ChannelGraph(model)
  full = count(model, (default, default, 3)) if size and size != default else graph.counts()
  row: dict[str, Any] = {
    'architecture': name,
    'macs': full.macs,
    'params': full.params,
    'macs_run': graph.counts().macs,
    'groups': len(graph.groups),
    'prunable_groups': sum(group.prunable for group in graph.groups),
    'prunable_macs': graph.prunable_share(full),
    'protected': sorted({kind(reason) for group in graph.groups for reason in group.reasons}),
    'ratios': {},
  }
  np.save(folder / 'images.npy', images)
  files, expected = [], []
  for ratio in RATIOS:
    plan = plan_slice(graph, random_keep(graph, ratio, seed=int(100 * ratio)))
    small = apply_plan(plan)
    with masked(plan):
      want = model(images, training=False).numpy()
    counted = count(small)
    cell = {
      'macs': counted.macs,
      'params': counted.params,
      'sliced': deviation(want, small(images, training=False).numpy()),
      'counts_agree': plan_cost(plan) == (counted.macs, counted.params),
      'held_back': len(plan.held_back),
    }
    lite, lite_macs = run_tflite(small, images)
    cell.update(tflite=deviation(want, lite), tflite_macs_agree=lite_macs == counted.macs)
    files.append(save_model(small, folder / f'{name}_{round(100 * ratio)}.keras'))
    expected.append(want)
    sabotage(small)
    cell['sabotaged'] = deviation(want, small(images, training=False).numpy())
    row['ratios'][str(ratio)] = cell
  environment = {**os.environ, 'PYTHONSAFEPATH': '1'}
  command = [sys.executable, '-c', _RELOAD, str(folder / 'images.npy'), *map(str, files)]
  result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
  for cell, path, want in zip(row['ratios'].values(), files, expected):
    saved = Path(f'{path}.npy')
    cell['reloaded'] = deviation(want, np.load(saved)) if saved.exists() else float('inf')
  row['reload_error'] = result.stderr.strip().splitlines()[-1] if result.returncode else None
  row['passed'] = row['prunable_macs'] >= 0.9 and all(map(passes, row['ratios'].values()))
  row['seconds'] = round(time.perf_counter() - start, 1)
  return row


def kind(reason: str) -> str:
  """Removes the layer's name from a reason: "LayerNormalization 'x' ..." -> 'LayerNormalization'."""
  words = [word for i, word in enumerate(reason.split("'")) if i % 2 == 0]
  return ' '.join(' '.join(words).split())


def passes(cell: dict[str, Any]) -> bool:
  """True if one ratio meets every requirement, and the sabotaged slice does not."""
  return (
    cell['sliced'] <= TOLERANCE
    and cell['reloaded'] <= TOLERANCE
    and cell['tflite'] <= TOLERANCE
    and cell['counts_agree']
    and cell['tflite_macs_agree']
    and cell['sabotaged'] > TOLERANCE
  )


def markdown(rows: Sequence[dict[str, Any]]) -> str:
  """Formats the table for the documentation."""
  lines = [
    '| architecture | MACs | groups (prunable) | prunable fraction of MACs | protected by '
    '| MACs left at 30 % / 60 % | largest deviation | pass |',
    '|---|---|---|---|---|---|---|---|',
  ]
  for row in rows:
    left = ' / '.join(f'{c["macs"] / row["macs_run"]:.0%}' for c in row['ratios'].values())
    worst = max(max(c['sliced'], c['reloaded'], c['tflite']) for c in row['ratios'].values())
    lines.append(
      f'| {row["architecture"]} | {row["macs"] / 1e6:,.0f} M | {row["groups"]}'
      f' ({row["prunable_groups"]}) | {row["prunable_macs"]:.1%} | {"; ".join(row["protected"])}'
      f' | {left} | {worst:.1e} | {"yes" if row["passed"] else "no"} |'
    )
  return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
  """Checks the chosen architectures; returns 1 if one fails."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--only', nargs='+', choices=list(ARCHITECTURES), metavar='NAME')
  parser.add_argument('--fast', action='store_true', help=f'only {", ".join(FAST)}')
  parser.add_argument('--size', type=int, help='input size for the comparison of logits')
  parser.add_argument('--merge', nargs='+', type=Path, help='only print the table of these files')
  parser.add_argument('--json', type=Path, help='file for all numbers')
  parser.add_argument('--markdown', type=Path, help='file for the table')
  args = parser.parse_args(argv)
  if args.merge:
    found = [row for path in args.merge for row in json.loads(path.read_text(encoding='utf-8'))]
    order = list(ARCHITECTURES)
    found.sort(key=lambda row: order.index(row['architecture']))
    print(markdown(found))
    return 0 if all(row['passed'] for row in found) else 1
  names = args.only or (FAST if args.fast else list(ARCHITECTURES))
  rows = []
  for name in names:
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
      row = check(name, args.size, Path(folder))
    rows.append(row)
    worst = {key: f'{max(c[key] for c in row["ratios"].values()):.1e}' for key in _SHOWN}
    print(
      f'{name}: groups {row["groups"]}, prunable {row["prunable_macs"]:.1%}, {worst},'
      f' pass {row["passed"]}, {row["seconds"]} s {row["reload_error"] or ""}',
      flush=True,
    )
  if args.json:
    args.json.write_text(json.dumps(rows, indent=2) + '\n', encoding='utf-8')
  if args.markdown:
    args.markdown.write_text(markdown(rows) + '\n', encoding='utf-8')
  return 0 if all(row['passed'] for row in rows) else 1


if __name__ == '__main__':
  sys.exit(main())
