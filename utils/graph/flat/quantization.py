"""A tfmot quantize config for layers that it has none for; imported only when it is asked for."""

from __future__ import annotations

from typing import Any

from tensorflow_model_optimization.quantization.keras import QuantizeConfig


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
