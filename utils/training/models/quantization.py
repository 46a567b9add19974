"""Networks that compute as their full-integer .tflite files will, for training.

Kernels and activations are rounded to 8 bits in the forward pass, and gradients pass through (Jacob et
al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv:1712.05877, section 3). Kernels are rounded symmetrically about zero, so that zeros
stay zeros. Normalisations are folded with their moving statistics, which stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy.faults.known import known_faults
from secateurs.utils.deploy.faults.loops import unrolled
from secateurs.utils.deploy.faults.rewritings import rewritten
from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.copying import copy_flat
from secateurs.utils.graph.flat.rebuild import new_inputs, new_model
from secateurs.utils.graph.flat.walk import FlatModel, flatten_model
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.int8.plan import Plan
from secateurs.utils.training.int8.simulation import Simulation, simulations
from secateurs.utils.training.int8.tracing import open_model
from secateurs.utils.training.models.weights import layer_kernels

_NAME = 'int8'
_BATCH = 50


def quantized_twin(model: keras.Model) -> keras.Model:
  """A model with its own copy of the weights that simulates 8-bit arithmetic.

  All of it is one layer, whose weights have the model's names. Ranges of activations follow the
  training as moving averages, and start where `calibrate` puts them.

  Args:
    model: functional, float32.

  Raises:
    UserError: a layer cannot be copied, or makes a mask.
  """
  flat = flatten_model(model)
  _require_no_masks(flat)
  source = copy_flat(flat)
  own = flatten_model(source)
  with rewritten({**known_faults(source), **unrolled(source)}):
    plan = Plan(open_model(own))
  inputs = new_inputs(own)
  layer = Simulation(source, plan, name=_NAME)
  outputs = layer([inputs[number] for number, _ in own.inputs])
  return new_model(own, inputs, tf.nest.flatten(outputs))


def _require_no_masks(flat: FlatModel) -> None:
  """Refuses layers that hand masks to others beside the tensors of the graph."""
  for call in flat.calls:
    layer = call.layer
    if isinstance(layer, keras.layers.Masking) or getattr(layer, 'mask_zero', False):
      raise UserError(
        f'8-bit arithmetic cannot be simulated for {flat.model.name}: its layer {call.name} '
        f'({type(layer).__name__}) makes a mask, which no integer file has. Give the mask as an input, '
        'or leave training in 8 bits out and quantise afterwards.'
      )


def calibrate(twin: keras.Model, images: Any) -> None:
  """Sets a twin's ranges of activations to those that its float network has for some images.

  Args:
    twin: from `quantized_twin`.
    images: inputs [n, ...].
  """
  (layer,) = simulations(twin)
  ends: dict[str, list[float]] = {}
  for first in range(0, nested.size(images), _BATCH):
    layer.observe(nested.rows(images, slice(first, first + _BATCH)), ends)
  layer.set_ranges(ends)


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
