"""Which kernels may have zeros, by flags and `--layers`, and how many of their weights stay."""

from __future__ import annotations

import math
from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.layer_choice import LayerRule
from secateurs.learners.run.settings import Settings
from secateurs.learners.weights.configs import WsConfig
from secateurs.learners.weights.ratios import dense_kernels
from secateurs.learners.weights.xnnpack import xnnpack_kernels
from secateurs.utils.errors import UserError
from secateurs.utils.graph.groups.table import columns
from secateurs.utils.training.engine.patterns import Blocks, Pattern, Unstructured
from secateurs.utils.training.models.weights import kernels_by_name, layer_kernels

_L = keras.layers
_TRANSPOSED = (_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose)


def prunable_kernels(
  settings: Settings, config: WsConfig, model: keras.Model
) -> dict[str, tf.Variable]:
  """The kernels that are made sparse, by name: what the pattern and the policy fit, but the smallest.

  Raises:
    UserError: there is none, or a pattern of `--layers` fits no kernel's layer.
  """
  kernels = kernels_by_name(model)
  if config.policy == 'xnnpack':
    chosen = set(xnnpack_kernels(model, kernels))
  else:
    sizes = {name: math.prod(kernel.shape) for name, kernel in kernels.items()}
    chosen = set(kernels) - dense_kernels(sizes, config.dense_share)
  settings.layers.require([_layer(name) for name in kernels], settings.helper.net)
  layers = {kernel.ref(): layer for layer, kernel in layer_kernels(model)}
  found = {
    name: kernel
    for name, kernel in kernels.items()
    if name in chosen
    and not _rule(settings, name).skip
    and _fits(config.zeros, layers[kernel.ref()], kernel)
  }
  if not found:
    raise UserError(
      f'No kernel of {settings.helper.net} can have zeros in the pattern {config.zeros.name}: choose '
      'smaller blocks.'
    )
  return found


def _fits(pattern: Pattern, layer: _L.Layer, kernel: tf.Variable) -> bool:
  """Whether a kernel can have a pattern, which takes it as [..., inputs, outputs]."""
  if isinstance(pattern, Unstructured):
    return True
  if isinstance(layer, _TRANSPOSED):  # Theirs are [..., outputs, inputs].
    return False
  # Blocks lie along the last axis and count all others as inputs.
  sums = isinstance(pattern, Blocks) or _sums_inputs(layer, kernel)
  return sums and pattern.fits(tuple(kernel.shape))


def _sums_inputs(layer: _L.Layer, kernel: tf.Variable) -> bool:
  """Whether an output adds up over the last axis but one of its kernel."""
  name = kernel.name.split(':')[0].rsplit('/', 1)[-1]
  if name == 'embeddings' or 'depthwise' in name:
    return False
  for part in (layer, *layer.submodules):  # Also those inside of a MultiHeadAttention.
    if isinstance(part, _L.EinsumDense) and part.kernel is kernel:
      taken, _, rest = part.equation.partition(',')
      letters, _, made = rest.partition('->')
      return letters[-2] in taken and letters[-2] not in made
  return True


def with_rules(
  settings: Settings, sizes: Mapping[str, int], kept: Mapping[str, int]
) -> dict[str, int]:
  """Weights that stay by kernel name, with ratios and floors; printed where there are any."""
  found = {name: _rule(settings, name).count(sizes[name], n) for name, n in kept.items()}
  if settings.run.layers is not None:
    rows = [
      [name, str(sizes[name]), str(n), str(_rule(settings, name))] for name, n in found.items()
    ]
    say(columns(['kernel', 'weights', 'stay', '--layers'], rows, right=(1, 2)))
  return found


def _rule(settings: Settings, name: str) -> LayerRule:
  return settings.layers.rule([_layer(name)])


def _layer(name: str) -> str:
  """The layer of a kernel's name."""
  return name.split('/')[0]
