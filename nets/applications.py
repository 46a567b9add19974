"""Converts weights of tf_keras.applications to this project's names, with equal outputs at inference.

Files that tf_keras.applications downloads, or whole models saved from it, fit the networks here once
the weights are renamed. The weights also compensate for differences between the layers: the bias of a
convolution is moved into the mean of the normalisation after it, a different epsilon into its variance,
and a network without normalisation gets one that only adds the bias. Unknown weights are returned
unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]
_RESNET_EPSILON = 1.001e-5
_XCEPTION_EPSILON = 1e-3
_OUR_EPSILON = 1e-5


def resnet_weights(weights: Weights) -> Weights:
  """Converts ResNet50 and ResNet101 (version 1) for a ResNet of version 1."""
  if 'conv1_conv/kernel' not in weights:
    return weights
  found: dict[str, np.ndarray] = {}
  for name, value in weights.items():
    layer, weight = name.rsplit('/', 1)
    match = re.fullmatch(r'conv(\d)_block(\d+)_(\d)_(conv|bn)', layer)
    if match:
      stage, block, number, kind = match.groups()
      part = f'shortcut_{kind}' if number == '0' else f'{kind}{number}'
      layer = f'stage{int(stage) - 1}_block{block}_{part}'
    else:
      layer = {'conv1_conv': 'stem_conv', 'conv1_bn': 'stem_bn', 'predictions': 'logits'}[layer]
    found[f'{layer}/{weight}'] = value
  for name in [n for n in found if 'conv' in n and n.endswith('/bias')]:
    mean = f'{name.removesuffix("/bias").replace("conv", "bn")}/moving_mean'
    found[mean] = found[mean] - found.pop(name)
  for name in found:
    if name.endswith('/moving_variance'):
      found[name] = found[name] + np.float32(_RESNET_EPSILON - _OUR_EPSILON)
  return found


def mobilenet_v1_weights(weights: Weights) -> Weights:
  """Converts MobileNet."""
  if 'conv_dw_1/depthwise_kernel' not in weights:
    return weights
  rules = (
    (r'conv1(_bn)?', 'stem{0}'),
    (r'conv_dw_(\d+)(_bn)?', 'block{0}_depthwise{1}'),
    (r'conv_pw_(\d+)(_bn)?', 'block{0}_pointwise{1}'),
    (r'conv_preds', 'logits'),
  )
  found = _renamed(weights, rules)
  found['logits/kernel'] = found['logits/kernel'].reshape(found['logits/kernel'].shape[-2:])
  return found


def mobilenet_v2_weights(weights: Weights) -> Weights:
  """Converts MobileNetV2."""
  if 'expanded_conv_depthwise/depthwise_kernel' not in weights:
    return weights
  rules = (
    (r'Conv1', 'stem_conv'),
    (r'bn_Conv1', 'stem_bn'),
    (r'Conv_1(_bn)?', 'head{0}'),
    (r'expanded_conv_([a-z]+)(_BN)?', 'block1_{0}{1}'),
    (r'predictions', 'logits'),
  )
  numbered = {}
  for name, value in weights.items():
    # tf_keras.applications gives the second block the number 1.
    match = re.fullmatch(r'block_(\d+)_([a-z]+)(_BN)?/(\w+)', name)
    if match:
      number, part, norm, weight = match.groups()
      name = f'block{int(number) + 1}_{part}_{"bn" if norm else "conv"}/{weight}'
    numbered[name] = value
  return _renamed(numbered, rules)


def vgg_weights(weights: Weights, *, normed: bool) -> Weights:
  """Converts VGG16, which has no normalisation."""
  if 'block1_conv1/kernel' not in weights:
    return weights
  rules = (
    (r'block(\d)_conv(\d)', 'conv{0}_{1}'),
    (r'fc1', 'fc6'),
    (r'fc2', 'fc7'),
    (r'predictions', 'logits'),
  )
  found = _renamed(weights, rules)
  if normed:
    for name in [n for n in found if n.startswith('conv') and n.endswith('/bias')]:
      layer, bias = name.removesuffix('/bias').replace('conv', 'bn'), found.pop(name)
      found[f'{layer}/gamma'] = np.ones_like(bias)
      found[f'{layer}/beta'] = bias
      found[f'{layer}/moving_mean'] = np.zeros_like(bias)
      found[f'{layer}/moving_variance'] = np.full_like(bias, 1 - _OUR_EPSILON)
  return found


def xception_weights(weights: Weights) -> Weights:
  """Converts Xception, whose four projections have names that Keras numbered, in the order of depth."""
  if 'block14_sepconv2/pointwise_kernel' not in weights or 'predictions/kernel' not in weights:
    return weights
  numbered = {
    kind: sorted(
      {int(m[1] or 0) for m in (re.fullmatch(rf'{kind}(?:_(\d+))?/.*', n) for n in weights) if m}
    )
    for kind in ('conv2d', 'batch_normalization')
  }
  places = (2, 3, 4, 13)
  names = {'predictions': 'logits'}
  for kind, part in (('conv2d', 'conv'), ('batch_normalization', 'bn')):
    for number, place in zip(numbered[kind], places):
      names[f'{kind}_{number}' if number else kind] = f'block{place}_shortcut_{part}'
  found = {}
  for name, value in weights.items():
    layer, weight = name.rsplit('/', 1)
    if weight == 'moving_variance':
      value = value + np.float32(_XCEPTION_EPSILON - _OUR_EPSILON)
    found[f'{names.get(layer, layer)}/{weight}'] = value
  return found


def _renamed(weights: Weights, rules: tuple[tuple[str, str], ...]) -> dict[str, np.ndarray]:
  """Renames layers; a pattern's last group `(_bn)?` becomes `_bn`, or `_conv` where it is missing."""
  found = {}
  for name, value in weights.items():
    layer, weight = name.rsplit('/', 1)
    for pattern, template in rules:
      match = re.fullmatch(pattern, layer)
      if match:
        parts = list(match.groups())
        if pattern.endswith(('(_bn)?', '(_BN)?')):
          parts[-1] = '_bn' if parts[-1] else '_conv'
        layer = template.format(*parts)
        break
    found[f'{layer}/{weight}'] = value
  return found
