"""A made-up but plausible run for the tests of the report: channels cut, then weights zeroed."""

import json
import math
import random

FRAMES = ((1, 0.424, 0.452), (2, 0.331, 0.402))


def score(value, nb_samples=10_000, **changed):
  """An accuracy as a report holds it; keys such as name, unit and noise can be changed."""
  noise = math.sqrt(value * (1 - value) / nb_samples) if 0 <= value <= 1 else None
  common = {'name': 'accuracy', 'higher_is_better': True, 'unit': 'percent', 'noise': noise}
  return {**common, 'value': value, **changed}


def error(value, noise=0.01):
  """A mean absolute error: a score of which less is better, and that is no share."""
  return score(value, name='mae', higher_is_better=False, unit='number', noise=noise)


def _accuracies(top1, top5=None):
  """What classification adds to a block."""
  found = {'score': score(top1), 'accuracy': top1}
  if top5 is None:
    return found
  figure = score(top5, name='accuracy_top5', label='top-5 accuracy')
  return {**found, 'accuracy_top5': top5, 'figures': [figure]}


def _latency(factor):
  return [
    {'threads': n, 'p50_ms': p50 * factor, 'p90_ms': p90 * factor, 'fps': 980 / (p50 * factor)}
    for n, p50, p90 in FRAMES
  ]


def _layers():
  rows = [('stem_conv', 3, 16, 32, 3)]
  width = 16
  for stage, channels in enumerate((16, 32, 64), start=1):
    for block in range(1, 4):
      name = f'stage{stage}_block{block}'
      side = 32 >> (stage - 1)
      rows.append((f'{name}_conv1', width, channels, side, 3))
      rows.append((f'{name}_conv2', channels, channels, side, 3))
      if width != channels:
        rows.append((f'{name}_shortcut_conv', width, channels, side, 1))
      width = channels
  layers = []
  for name, cin, cout, side, kernel in rows:
    kept = cout // 2 if name.endswith('conv1') else cout
    kept_in = cin // 2 if name.endswith('conv2') else cin
    area = kernel * kernel
    layers.append(
      {
        'name': name,
        'type': 'Conv2D',
        'in_channels': [cin, kept_in],
        'out_channels': [cout, kept],
        'macs': [side * side * area * cin * cout, side * side * area * kept_in * kept],
        'params': [area * cin * cout, area * kept_in * kept],
        'sparsity': 0.0 if name == 'stem_conv' else 0.75,
      }
    )
  layers.append(
    {
      'name': 'logits',
      'type': 'Dense',
      'in_channels': [64, 64],
      'out_channels': [10, 10],
      'macs': [640, 640],
      'params': [650, 650],
      'sparsity': 0.75,
    }
  )
  return layers


def sample_report():
  layers = _layers()
  macs = [sum(layer['macs'][i] for layer in layers) for i in (0, 1)]
  params = [sum(layer['params'][i] for layer in layers) + 2 * 784 for i in (0, 1)]
  return {
    'schema': 2,
    'learner': 'weight-sparse',
    'method': None,
    'task': 'classification',
    'net': 'resnet20',
    'dataset': 'cifar10',
    'seed': 0,
    'flags': {'ws_prune_ratio': 0.75, 'batch_size': 128, 'nb_epochs_rat': 0.024, 'debug': False},
    'versions': {'python': '3.11.2', 'tensorflow': '2.21.0', 'tf-keras': '2.21.0'},
    'nb_workers': 1,
    'nb_smpls_eval': 10_000,
    'original': {
      **_accuracies(0.8820, 0.9931),
      'loss': 0.3712,
      'params': params[0],
      'macs': macs[0],
      'sparsity': 0.0,
      'sparsity_params': 0.0021,
      'tflite_bytes': 1093520,
      'tflite_gzip_bytes': 1003411,
      'latency': _latency(1.0),
      'int8': {**_accuracies(0.8803), 'bytes': 303176, 'latency': _latency(0.29)},
    },
    'pruned': {
      **_accuracies(0.7214),
      'score_bn_reestimated': 0.8011,
      'loss': 0.8127,
      'params': params[1],
      'macs': macs[1],
      'sparsity': 0.75,
    },
    'compressed': {
      **_accuracies(0.8789, 0.9928),
      'loss': 0.3901,
      'params': params[1],
      'macs': macs[1],
      'sparsity': 0.75,
      'sparsity_params': 0.7421,
      'tflite_bytes': 561044,
      'tflite_gzip_bytes': 187220,
      'latency': _latency(0.58),
      'int8': {**_accuracies(0.8771), 'bytes': 169176, 'latency': _latency(0.19)},
    },
    'requested': {'prune_ratio': 0.75},
    'achieved': {
      'prune_ratio': 0.75,
      'macs_ratio': macs[1] / macs[0],
      'params_ratio': params[1] / params[0],
      'sparsity': 0.75,
      'sparsity_params': 0.7421,
    },
    'layers': layers,
    'int8_layers': {
      'layers': [
        {
          'layer': 'conv1',
          'operator': 'CONV_2D',
          'tensor': 'net/conv1/Conv2D',
          'snr_db': 31.2,
          'alone': 0.0213,
          'rest': 0.0041,
        },
        {
          'layer': 'logits',
          'operator': 'SOFTMAX',
          'tensor': 'Identity',
          'snr_db': None,
          'alone': 0.0,
          'rest': 0.0252,
        },
      ],
      'all': 0.0262,
      'nb_images': 16,
    },
    'int8_repair': [
      {'step': 'plain', 'kept': True, 'divergence': 0.4, 'drop': 0.031, 'detail': ''},
      {
        'step': 'equalise',
        'kept': True,
        'divergence': 0.02,
        'drop': 0.002,
        'detail': '96 channels, by their activations',
      },
    ],
    'phases': [
      {'name': 'baseline', 'iters': 0, 'seconds': 0.4},
      {'name': 'sparsify', 'iters': 1560, 'seconds': 301.2},
      {'name': 'fine-tune', 'iters': 780, 'seconds': 149.8},
      {'name': 'export', 'iters': 0, 'seconds': 3.1},
    ],
    'images_per_sec': 871.3,
    'seconds_total': 462.0,
    'parity': {'tflite_vs_keras': 4.1e-7, 'pb_vs_keras': 0.0, 'int8_top1_agreement': 0.984},
    'notes': [
      'The zeros are unstructured: by themselves they cut neither the latency nor the raw file '
      'size.',
      'The trunk of the residual stages was left as it is: only inner channels were removed.',
    ],
    'extra': {'cpu': '2 cores'},
  }


def sample_metrics():
  """Lines of a metrics.jsonl, as text."""
  rng = random.Random(0)
  lines = []
  for phase, steps, rate in (('sparsify', 1560, 0.01), ('fine-tune', 780, 0.001)):
    for step in range(10, steps + 1, 10):
      done = step / steps
      bump = 0.5 * math.exp(-(((done - 0.45) / 0.25) ** 2)) if phase == 'sparsify' else 0.04
      loss = 0.22 + bump + rng.gauss(0, 0.04)
      lines.append(
        {
          'phase': phase,
          'step': step,
          'epoch': round(step / 390, 3),
          'loss': loss,
          'accuracy': min(1.0, 0.94 - 0.3 * bump + rng.gauss(0, 0.015)),
          'lrn_rate': rate * 0.5 * (1 + math.cos(math.pi * done)) + 1e-5,
          'images_per_sec': 870 + rng.gauss(0, 9),
          'sparsity': 0.75 * (1 - (1 - done) ** 3) if phase == 'sparsify' else 0.75,
        }
      )
      if step % 390 == 0:
        lines.append(
          {
            'phase': phase,
            'step': step,
            'eval_accuracy': 0.88 - 0.2 * bump,
            'eval_loss': 0.37 + 0.8 * bump,
          }
        )
  return [json.dumps(line) for line in lines]
