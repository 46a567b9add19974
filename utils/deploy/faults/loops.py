"""Loops in networks: on them the calibration of TensorFlow Lite 2.21 ends the process.

Recurrent layers are unrolled for full-integer files, which gives plain operators that all have integer
kernels. What cannot be unrolled is refused before the runtime sees it.
"""

from __future__ import annotations

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
      return original(inputs, *args, **options)
    finally:
      for key, value in before.items():
        setattr(layer, key, value)

  return call


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
