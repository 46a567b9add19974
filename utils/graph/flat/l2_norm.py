"""L2Norm: brings the channels at each position to one length, with a learned scale for each channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package='secateurs')
class L2Norm(keras.layers.Layer):
  """y_c = gamma_c x_c / sqrt(sum_k x_k^2) over the last axis (Liu et al. 2015, ParseNet, equation 2).

  Channels that are zero do not change the others, so that channels can be cut exactly.
  """

  def __init__(self, scale: float = 20.0, **kwargs: Any):
    """`scale`: of every channel at first; 20 in Liu et al. 2016, section 3.1."""
    super().__init__(**kwargs)
    self.scale = float(scale)

  def build(self, input_shape: Sequence[int | None]) -> None:
    """Makes gamma [c]."""
    start = keras.initializers.Constant(self.scale)
    self.gamma = self.add_weight('gamma', (int(input_shape[-1]),), initializer=start)
    super().build(input_shape)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Normalises [n, ..., c]."""
    return tf.math.l2_normalize(inputs, axis=-1) * self.gamma

  def get_config(self) -> dict[str, Any]:
    """The first scale."""
    return {**super().get_config(), 'scale': self.scale}

  def get_quantize_config(self) -> Any:
    """A tfmot quantize config that quantises nothing."""
    from secateurs.utils.graph.flat.quantization import NoOpQuantizeConfig

    return NoOpQuantizeConfig()
