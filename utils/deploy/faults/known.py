"""Faults of runtimes that devices may have even where the installed one is right."""

from __future__ import annotations

import tf_keras as keras

from secateurs.utils.deploy.faults.rewritings import LayerCall, explicit_padding
from secateurs.utils.graph.flat.walk import flatten_model


def known_faults(model: keras.Model) -> dict[keras.layers.Layer, LayerCall]:
  """Layers that some runtimes compute wrongly, and the calls to make files with instead.

  XNNPACK in TensorFlow Lite 2.21 places the window wrongly in a convolution with `same` padding whose
  last window ends before the input does, as where the stride is greater than the kernel; other
  runtimes do not. docs/runtime_faults.md has the settings. With explicit padding all are right.
  """
  flat = flatten_model(model)
  calls: dict[keras.layers.Layer, LayerCall] = {}
  for call in flat.calls:
    layer = call.layer
    new = explicit_padding(layer)
    if new is not None and _ends_early(layer, flat.shapes[call.inputs[0]][1:-1]):
      calls[layer] = new
  return calls


def _ends_early(layer: keras.layers.Layer, size: tuple[int | None, ...]) -> bool:
  """Whether the last window ends before the input does along some axis; never for 1x1 kernels."""
  if None in size or set(layer.kernel_size) == {1}:
    return False
  places = zip(size, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
  return any((-(-n // s) - 1) * s + (k - 1) * d + 1 < n for n, k, s, d in places)
