"""Fits an integer file's weights and biases to the float file that it was made of, layer after layer.

Bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2): to the bias of each output channel
the mean over images of (float - quantised pre-activation) is added. Layers are taken in order, so that
each sees the inputs that the repaired layers before it give. Adaptive rounding: see `rounding`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.int8.maths import Product, product_of
from secateurs.utils.deploy.int8.opened import OpenFile, with_kernels
from secateurs.utils.deploy.int8.operators import KERNELS, Operator
from secateurs.utils.deploy.int8.rounding import adaptive_rounding, squares_of
from secateurs.utils.deploy.int8.running import Runner

NB_IMAGES = 32
MOST_VALUES = 1 << 25
"""Values of the patches of a layer, which are taken of evenly many of its positions."""


def refitted(content: bytes, integers: bytes, images: Any, *, rounding: bool, bias: bool) -> bytes:
  """An integer file with other weights and biases; scales and zero points stay.

  Args:
    content: of the float file.
    integers: content of the integer file that was made of it, with the same layers in order; layers
      that are float in it stay as they are.
    images: inputs [n, ...], of which the first 32 are run.
    rounding: whether weights are rounded again.
    bias: whether biases are corrected.

  Raises:
    ValueError: the two files have other kernels.
  """
  images = nested.rows(images, slice(NB_IMAGES))
  real, made = OpenFile(content), OpenFile(integers)
  pairs = list(zip(with_kernels(real), with_kernels(made), strict=True))
  original = Runner(content, images)
  for before, after in pairs:
    product = product_of(real, before)
    if product is None or made.shape(after.inputs[1]) != product.shape:
      continue
    runner = Runner(made.content(), images)
    _refit_layer(real, before, original, made, after, runner, product, rounding, bias)
  return made.content()


def _refit_layer(
  real: OpenFile,
  before: Operator,
  original: Runner,
  made: OpenFile,
  after: Operator,
  runner: Runner,
  product: Product,
  rounding: bool,
  bias: bool,
) -> None:
  """Changes one operator of `made`."""
  slots = KERNELS[before.kind]
  after = made.operators[after.number]
  number, bias_number = after.inputs[slots.kernel], _bias(after, slots.bias)
  integers = made.constant(number)
  if integers is None or integers.dtype != np.int8 or not len(made.scales(number)):
    return  # It is float, or has fewer bits.
  data = after.inputs[slots.data]
  given = runner.tensor(made.name(data))
  wanted = original.tensor(real.name(before.inputs[slots.data]))
  if given is None or wanted is None or given.shape != wanted.shape:
    return
  corrects = bias and bias_number is not None
  patches, targets = (product.patches(one, MOST_VALUES) for one in (given, wanted))
  kernel = product.weights(real.constant(before.inputs[slots.kernel]))
  outputs = np.einsum('pgk,gko->pgo', targets, kernel, optimize=True)
  step = product.per_output(np.broadcast_to(made.scales(number), product.per_output_shape()))
  chosen = product.weights(integers)
  if rounding:
    centred = patches - patches.mean(axis=0) if corrects else patches
    aims = outputs - outputs.mean(axis=0) if corrects else outputs
    squares = squares_of(centred)
    products = np.einsum('pgk,pgo->gko', centred, aims, optimize=True) / len(patches)
    chosen = adaptive_rounding(kernel, step, squares, products)
    made.set_input(after, slots.kernel, product.kernel(chosen))
  if corrects:
    # Kernels stay in 8 bits: einsum takes them to float64 piece by piece.
    now = np.einsum('gk,gko->go', patches.mean(axis=0), chosen, dtype=np.float64)
    missing = outputs.mean(axis=0).reshape(-1) - (now * step[:, 0]).reshape(-1)
    real_bias = _bias(before, slots.bias)
    missing = missing + (0 if real_bias is None else real.constant(real_bias))
    scale = step.reshape(-1) * made.scales(data)[0]
    kept = made.constant(bias_number)
    limits = np.iinfo(kept.dtype)
    new = np.clip(np.rint(missing / scale), limits.min, limits.max).astype(kept.dtype)
    made.set_input(made.operators[after.number], slots.bias, new)


def _bias(op: Operator, position: int) -> int | None:
  """Number of an operator's bias; None where it has none."""
  number = op.inputs[position] if len(op.inputs) > position else -1
  return None if number < 0 else number
