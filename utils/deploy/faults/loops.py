"""Loops in networks: on them the calibration of TensorFlow Lite 2.21 ends the process.

Recurrent layers are unrolled for full-integer files, which gives plain operators that all have integer
kernels. What cannot be unrolled is refused before the runtime sees it. Their gates are cut out one by
one: in one conversion of three of the same network a division of gates stayed in float.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.faults.rewritings import LayerCall
from secateurs.utils.errors import UserError

MOST_STEPS = 256
"""Steps up to which a recurrent layer is unrolled: each step is some ten operators of the file."""
_LOOPS = ('While', 'StatelessWhile')


def unrolled(model: keras.Model) -> dict[keras.layers.Layer, LayerCall]:
  """Recurrent layers of a model, also inside of others, and the calls that unroll them."""
  return {
    layer: _unrolled(layer) for layer in model.submodules if isinstance(layer, keras.layers.RNN)
  }


def _unrolled(layer: keras.layers.RNN) -> LayerCall:
  original = layer.call

  def call(inputs: tf.Tensor, *args: Any, **options: Any) -> tf.Tensor:
    steps = inputs.shape[0 if layer.time_major else 1]
    if steps is None or steps > MOST_STEPS:
      return original(inputs, *args, **options)
    before = {
      key: getattr(layer, key) for key in ('unroll', '_could_use_gpu_kernel') if hasattr(layer, key)
    }
    layer.unroll = True
    if '_could_use_gpu_kernel' in before:
      layer._could_use_gpu_kernel = False  # The other kernel of LSTM and GRU knows no unrolling.
    try:
      with _gates_one_by_one():
        return original(inputs, *args, **options)
    finally:
      for key, value in before.items():
        setattr(layer, key, value)

  return call


@contextlib.contextmanager
def _gates_one_by_one() -> Iterator[None]:
  """Has the cells of tf_keras slice tensors where they divide them."""
  plain = tf.compat.v2.split
  tf.compat.v2.split = functools.partial(_slices, plain)
  try:
    yield
  finally:
    tf.compat.v2.split = plain


def _slices(
  plain: Callable[..., list[tf.Tensor]],
  value: tf.Tensor,
  num_or_size_splits: Any,
  axis: int = 0,
  **options: Any,
) -> list[tf.Tensor]:
  """What `plain`, which is tf.split, gives for equal parts, as slices."""
  if not isinstance(num_or_size_splits, int) or value.shape[axis] is None:
    return plain(value, num_or_size_splits, axis, **options)
  place, size = axis % value.shape.rank, value.shape[axis] // num_or_size_splits
  ends = [-1] * value.shape.rank
  ends[place] = size
  return [
    tf.slice(value, [number * size if i == place else 0 for i in range(len(ends))], ends)
    for number in range(num_or_size_splits)
  ]


def require_no_loops(function: Any, model_name: str) -> None:
  """Refuses a function that is to be calibrated and has loops.

  Args:
    function: concrete.
    model_name: for the error.

  Raises:
    UserError: it has one.
  """
  graph = function.graph.as_graph_def()
  nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
  loop = next((node for node in nodes if node.op in _LOOPS), None)
  if loop is not None:
    raise UserError(
      f"Model '{model_name}' has a loop ({loop.name}), on which the calibration of the installed "
      f'TensorFlow Lite ends the process: give the input a fixed number of at most {MOST_STEPS} steps, '
      'so that recurrent layers are unrolled, or leave the full-integer file out.'
    )
