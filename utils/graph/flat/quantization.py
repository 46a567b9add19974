"""tfmot quantize configs for layers that it has none for; imported only when they are asked for."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_model_optimization.quantization.keras import QuantizeConfig
from tensorflow_model_optimization.quantization.keras.quantizers import (
  LastValueQuantizer,
  MovingAverageQuantizer,
)


class NoOpQuantizeConfig(QuantizeConfig):
  """Quantises neither weights, activations nor outputs."""

  def get_weights_and_quantizers(self, layer: Any) -> list:
    """None."""
    return []

  def get_activations_and_quantizers(self, layer: Any) -> list:
    """None."""
    return []

  def set_quantize_weights(self, layer: Any, quantize_weights: list) -> None:
    """Nothing to set."""

  def set_quantize_activations(self, layer: Any, quantize_activations: list) -> None:
    """Nothing to set."""

  def get_output_quantizers(self, layer: Any) -> list:
    """None."""
    return []

  def get_config(self) -> dict[str, Any]:
    """No settings."""
    return {}


class OutputQuantizeConfig(NoOpQuantizeConfig):
  """Gives the output a range of 8 bits, a moving average, and leaves everything else alone."""

  def get_output_quantizers(self, layer: Any) -> list:
    """The default quantizer of activations."""
    del layer
    return [MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)]


class LayerQuantizeConfig(OutputQuantizeConfig):
  """Any layer: its own kernels, symmetrically with a step for each output channel, and its output.

  Kernels are trainable variables of at least two axes that are attributes of the layer. What lies in
  layers inside of it, and what it computes between, stays float.
  """

  def __init__(self) -> None:
    self._names: list[str] = []

  def get_weights_and_quantizers(self, layer: Any) -> list:
    """The kernels."""
    kernels = {name: value for name, value in vars(layer).items() if _is_kernel(value)}
    self._names = sorted(kernels)
    return [
      (
        kernels[name],
        LastValueQuantizer(num_bits=8, per_axis=True, symmetric=True, narrow_range=True),
      )
      for name in self._names
    ]

  def set_quantize_weights(self, layer: Any, quantize_weights: list) -> None:
    """Puts rounded kernels in their places."""
    for name, value in zip(self._names, quantize_weights, strict=True):
      setattr(layer, name, value)


def _is_kernel(value: Any) -> bool:
  return isinstance(value, tf.Variable) and value.trainable and value.shape.rank >= 2
