"""Networks that compute as their full-integer .tflite files will, for training.

tensorflow-model-optimization rounds kernels and activations to 8 bits in the forward pass and lets
gradients through (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv:1712.05877, section 3). Kernels are rounded symmetrically
about zero, so that zeros stay zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.l2_norm import L2Norm
from secateurs.utils.graph.flat.selection import ChannelSelection
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.models.int8_form import OPERATIONS, RANGE, int8_form, is_simulated
from secateurs.utils.training.models.weights import layer_kernels

# Layers of tf_keras that tfmot refuses though they only move or combine numbers.
_WITHOUT_KERNEL = (
  'ELU',
  'Subtract',
  'Multiply',
  'Average',
  'Maximum',
  'Minimum',
  'Resizing',
  'CenterCrop',
  'ThresholdedReLU',
)
_INPUT = 'quantize_layer'  # What rounds the input.
_BATCH = 50


def quantized_twin(model: keras.Model) -> keras.Model:
  """A model with its own copy of the weights that simulates 8-bit arithmetic.

  Its layers are called `quant_<layer>`, its weights as before; ranges of activations follow its
  training as moving averages, and start where `calibrate` puts them.

  Args:
    model: functional, float32.

  Raises:
    UserError: a layer has no 8-bit form.
  """
  from tensorflow_model_optimization.quantization import keras as quantization

  from secateurs.utils.graph.flat.quantization import NoOpQuantizeConfig, OutputQuantizeConfig

  configs = {one.__name__: one for one in (NoOpQuantizeConfig, OutputQuantizeConfig)}
  try:
    model = int8_form(model)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    keras.backend.reset_uids()  # Its new layers are numbered alike each time: checkpoints find them.
    annotated = keras.models.clone_model(twin, clone_function=_annotated)
    with quantization.quantize_scope(configs):
      return quantization.quantize_apply(annotated)
  except (RuntimeError, ValueError, NotImplementedError) as error:
    raise UserError(
      f'8-bit arithmetic cannot be simulated for {model.name} '
      f'({str(error).strip().splitlines()[0][:200]}): replace that layer, or leave training in '
      '8 bits out and quantise afterwards.'
    ) from error


def calibrate(twin: keras.Model, model: keras.Model, images: Any) -> None:
  """Sets a twin's ranges of activations to those that the model itself has for some images.

  They would start at -6 to 6 and move by a thousandth a step: logits that are clipped to that are what
  a short training then spends itself on.

  Args:
    twin: from `quantized_twin(model)`.
    model: functional, float32.
    images: inputs [n, ...].
  """
  model, ranges = int8_form(model), {}
  for layer in twin.layers:
    ends = {w.name.split(':')[0].rpartition('_')[2]: w for w in layer.weights if _is_range(w)}
    if ends:
      ranges[wrapped(layer).name] = ends['min'], ends['max']
  layers = [layer for layer in model.layers if layer.name in ranges]
  # Reduced where they are made: the maps of all layers together may not fit into memory.
  probe = keras.Model(
    model.inputs, [[tf.reduce_min(x.output), tf.reduce_max(x.output)] for x in layers]
  )
  found = [
    np.array(probe(nested.rows(images, slice(first, first + _BATCH)), training=False))
    for first in range(0, nested.size(images), _BATCH)
  ]
  lows = np.min(found, axis=0)[:, 0].clip(max=0)
  highs = np.max(found, axis=0)[:, 1].clip(min=0)
  extremes = {layer.name: ends for layer, *ends in zip(layers, lows, highs, strict=True)}
  real = [one for one in nested.parts(images) if one.dtype.kind == 'f']
  for place, one in enumerate(real):
    extremes[f'{_INPUT}_{place}' if place else _INPUT] = [one.min(), one.max()]
  for name in ranges.keys() & extremes.keys():
    for end, value in zip(ranges[name], extremes[name], strict=True):
      end.assign(value)


def _is_range(weight: tf.Variable) -> bool:
  """Whether a weight of a twin is an end of a range of activations."""
  name = weight.name.split(':')[0]
  return name.endswith(('_min', '_max')) and weight.shape.rank == 0 and 'kernel' not in name


def _annotated(layer: keras.layers.Layer) -> keras.layers.Layer:
  """The layer, marked for 8 bits; choices of channels are marked to need no range of their own."""
  from tensorflow_model_optimization.quantization.keras import quantize_annotate_layer

  from secateurs.utils.graph.flat.quantization import NoOpQuantizeConfig, OutputQuantizeConfig

  if isinstance(layer, keras.layers.InputLayer) or type(layer).__name__ in OPERATIONS:
    return layer
  if isinstance(layer, (ChannelSelection, L2Norm)):
    return quantize_annotate_layer(layer, NoOpQuantizeConfig())
  if layer.name.endswith(RANGE) or _needs_a_range(layer):
    return quantize_annotate_layer(layer, OutputQuantizeConfig())
  return quantize_annotate_layer(layer)


def _needs_a_range(layer: keras.layers.Layer) -> bool:
  """Whether a layer of tf_keras is not simulated, and computes without a kernel."""
  if isinstance(layer, keras.layers.Activation):
    return not is_simulated(layer.activation)
  if isinstance(layer, keras.layers.PReLU):
    return True
  return type(layer).__name__ in _WITHOUT_KERNEL


def wrapped(layer: keras.layers.Layer) -> keras.layers.Layer:
  """The layer that a layer of a quantized twin stands for, or the layer itself."""
  return getattr(layer, 'layer', layer)


def zero_masks(model: keras.Model, others: Sequence[Masks] = ()) -> Masks | None:
  """Masks that keep the zeros of a network's kernels, or None where it has none.

  Args:
    model: a network, or a twin that simulates 8 bits.
    others: masks whose variables are left to them.
  """
  taken = {variable.ref() for masks in others for variable in masks.variables}
  kernels = [
    kernel
    for _, kernel in layer_kernels(model)
    if kernel.ref() not in taken and not bool(tf.reduce_all(kernel != 0))
  ]
  return Masks(kernels, [tf.cast(k != 0, tf.float32) for k in kernels]) if kernels else None
