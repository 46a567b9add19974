"""Makes the .tflite files of one segment each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.latency_table.grid import input_grid, output_grid
from secateurs.utils.deploy.latency_table.segments import Segment, build
from secateurs.utils.deploy.runtime.interpreter import runtimes
from secateurs.utils.quiet import quiet_native

_NB_CALIBRATION = 4


@dataclasses.dataclass(frozen=True)
class Point:
  """One file of a segment: channels that it takes and makes."""

  taken: int
  made: int


def axes_of(segment: Segment, *, is_first: bool, is_last: bool) -> tuple[list[int], list[int]]:
  """Numbers of channels taken and made at which a segment is timed.

  Args:
    segment: what is timed.
    is_first: whether it reads the image, whose channels stay.
    is_last: whether it makes the network's outputs, which stay.
  """
  made = [segment.out_channels] if is_last else output_grid(segment.out_channels)
  if not segment.makes:
    return made, [0]
  whole = segment.in_shapes[0][-1]
  return ([whole] if is_first else input_grid(whole)), made


def content_of(model: keras.Model, kind: str) -> bytes:
  """The .tflite file of a network with any number of inputs, with batch 1.

  Args:
    model: the network.
    kind: float, or int8 (calibrated on noise: only its time matters).

  Raises:
    RuntimeError, ValueError: the converter refuses it.
  """
  from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

  shapes = [(1, *tensor.shape[1:]) for tensor in model.inputs]

  @tf.function(autograph=False)
  def forward(*tensors):
    return model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

  specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
  frozen = convert_variables_to_constants_v2(forward.get_concrete_function(*specs))
  with quiet_native():
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if kind == 'int8':
      rng = np.random.default_rng(0)
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
      converter.inference_input_type = converter.inference_output_type = tf.int8
      converter.representative_dataset = lambda: (
        [rng.standard_normal(shape, np.float32) for shape in shapes] for _ in range(_NB_CALIBRATION)
      )
    return converter.convert()


def segment_content(segment: Segment, point: Point, kind: str) -> bytes:
  """The .tflite file of a segment at a point."""
  return content_of(build(segment, point.taken, point.made), kind)


def empty_content(kind: str) -> bytes:
  """A file that computes almost nothing: what it takes is the cost of a call."""
  inputs = keras.Input((1, 1, 1))
  return content_of(keras.Model(inputs, keras.layers.ReLU()(inputs)), kind)


def runner(content: bytes, nb_threads: int) -> Callable[[], None]:
  """A function that runs a file once."""
  (*_, runtime) = runtimes().values()
  with quiet_native():
    interpreter = runtime(model_content=content, num_threads=nb_threads)
    interpreter.allocate_tensors()
  rng = np.random.default_rng(0)
  for details in interpreter.get_input_details():
    indices = details['dtype'] in (np.int32, np.int64)
    values = rng.standard_normal(details['shape']) * (0 if indices else 40)
    interpreter.set_tensor(details['index'], np.asarray(values, details['dtype']))
  interpreter.invoke()
  return interpreter.invoke
