"""ChannelSelection: feeds one consumer a choice of the channels that another one needs whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError


@keras.utils.register_keras_serializable(package='secateurs')
class ChannelSelection(keras.layers.Layer):
  """Keeps the channels `indices` of one axis, in the order given.

  Indices that form a range are taken with a slice, others with a gather. Saved with
  `save_model` the layer becomes one of these plain operations.
  """

  def __init__(self, indices: Sequence[int], axis: int = -1, **kwargs: Any):
    """`indices`: non-negative positions on `axis`; `axis` counts the batch."""
    super().__init__(**kwargs)
    self.indices = [int(index) for index in indices]
    self.axis = int(axis)
    if not self.indices or min(self.indices) < 0 or self.axis == 0:
      raise UserError(
        f'ChannelSelection {self.name!r} expects at least one non-negative index and an axis other'
        f' than the batch, got indices {self.indices[:5]} and axis {self.axis}.'
      )

  @property
  def bounds(self) -> tuple[int, int] | None:
    """(first, end) if the indices are a contiguous range, else None."""
    first, end = self.indices[0], self.indices[-1] + 1
    return (first, end) if self.indices == list(range(first, end)) else None

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Takes the channels."""
    return select(inputs, self.indices, self.bounds, self.axis)

  def compute_output_shape(self, input_shape: Sequence[int | None]) -> tf.TensorShape:
    """The input's shape with the number of indices on the axis."""
    shape = list(tf.TensorShape(input_shape).as_list())
    shape[self.axis] = len(self.indices)
    return tf.TensorShape(shape)

  def get_config(self) -> dict[str, Any]:
    """Indices and axis."""
    return {**super().get_config(), 'indices': self.indices, 'axis': self.axis}

  def get_quantize_config(self) -> Any:
    """A tfmot quantize config that quantises nothing: a choice of channels needs no new range.

    Pass it where layers are annotated:
    `quantize_annotate_layer(layer, quantize_config=layer.get_quantize_config())`.
    """
    from secateurs.utils.graph.flat.quantization import NoOpQuantizeConfig

    return NoOpQuantizeConfig()


def select(inputs: Any, indices: Sequence[int], bounds: tuple[int, int] | None, axis: int) -> Any:
  """Plain slice or gather along `axis`, on tensors or Keras tensors."""
  if bounds is None:
    return tf.gather(inputs, list(indices), axis=axis)
  rank = inputs.shape.rank
  spec = [slice(None)] * rank
  spec[axis] = slice(int(bounds[0]), int(bounds[1]))
  return inputs[tuple(spec)]
