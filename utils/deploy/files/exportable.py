"""Checks what an export is given: the model and its inputs."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.errors import UserError

NB_PARITY_IMAGES = 64
_PARITY_MACS, _LEAST_PARITY_IMAGES = 20e9, 4


def check_exportable(model: keras.Model) -> tuple[tf.TensorSpec, ...]:
  """Returns what the model reads: for each input its name, type and shape of a sample.

  Raises:
    UserError: not a functional tf_keras model with inputs of fixed shape, computed in float32.
  """
  if not isinstance(model, keras.Model):
    raise UserError(
      f'Cannot export a {type(model).__module__}.{type(model).__name__}; expected a Keras 2 model '
      '(import tf_keras as keras): build the network with tf_keras and load the weights into it.'
    )
  if not model.inputs or not model.outputs:
    raise UserError(
      f"Model '{model.name}' has {len(model.inputs or ())} inputs and "
      f'{len(model.outputs or ())} outputs; expected a functional model: build it as '
      'keras.Model(inputs, outputs).'
    )
  specs = []
  for tensor in model.inputs:
    layer, shape = tensor._keras_history.layer, tuple(tensor.shape[1:])
    if None in shape:
      raise UserError(
        f"Model '{model.name}' takes inputs of shape {shape}; expected a fixed one, such as "
        '(height, width, channels): build it with an Input of that shape.'
      )
    dtype = tf.float32 if tensor.dtype.is_floating else tensor.dtype
    specs.append(tf.TensorSpec(shape, dtype, name=layer.name))
  for layer in model.submodules:
    compute = getattr(layer, 'compute_dtype', None)
    if isinstance(layer, keras.layers.Layer) and compute in ('bfloat16', 'float16'):
      raise UserError(
        f"Layer '{layer.name}' of model '{model.name}' computes in {compute}; expected float32, "
        'which is what TensorFlow Lite takes: rebuild the model in float32 and copy the weights.'
      )
  return tuple(specs)


def calibration_images(images: Any, specs: tuple[tf.TensorSpec, ...]) -> Any:
  """Returns the inputs, each of the type that the model reads.

  Raises:
    UserError: there are none, they have another shape than the model's, or are not finite.
  """
  if not _fit(images, specs):
    raise UserError(
      f'An int8 export needs calibration images of shape {_expected(specs)}, came {_came(images)}; '
      'give a few hundred training images as the network sees them.'
    )
  images = _cast(images, specs)
  if not all(np.all(np.isfinite(one)) for one in nested.parts(images)):
    raise UserError(
      'The calibration images hold values that are not finite; expected training images as the '
      'network sees them: check the data pipeline.'
    )
  return images


def nb_parity_images(model: keras.Model) -> int:
  """How many inputs files are compared on: 64, fewer (at least 4) where they take over 20 G MACs."""
  from secateurs.utils.graph import count

  macs = max(count(model).macs, 1)
  return int(min(max(_PARITY_MACS // macs, _LEAST_PARITY_IMAGES), NB_PARITY_IMAGES))


def parity_inputs(
  images: Any,
  calibration: Any,
  specs: tuple[tf.TensorSpec, ...],
  nb_images: int = NB_PARITY_IMAGES,
) -> Any:
  """Returns the first inputs of those given, else of the calibration ones, else made-up ones.

  Args:
    images: given ones.
    calibration: images that ranges come from.
    specs: of one sample.
    nb_images: how many are returned, if there are so many.

  Raises:
    UserError: there are none, or they have another shape than the model's.
  """
  if images is None:
    images = calibration
  if images is None:
    return made_up(specs, nb_images)
  if not _fit(images, specs):
    raise UserError(
      f'The parity images have shape {_came(images)}, expected {_expected(specs)}; give images as '
      'the network sees them.'
    )
  return _cast(nested.rows(images, slice(nb_images)), specs)


def made_up(specs: tuple[tf.TensorSpec, ...], nb_samples: int) -> Any:
  """Inputs of Gaussian noise, zeros where the model reads whole numbers, the same in each call."""
  rng = np.random.default_rng(0)
  return nested.one_or_all(
    [
      rng.standard_normal((nb_samples, *spec.shape), np.float32)
      if spec.dtype.is_floating
      else np.zeros((nb_samples, *spec.shape), spec.dtype.as_numpy_dtype)
      for spec in specs
    ]
  )


def _fit(images: Any, specs: tuple[tf.TensorSpec, ...]) -> bool:
  given = [] if images is None else nested.parts(images)
  right = len(given) == len(specs)
  return right and all(
    np.shape(one)[1:] == tuple(spec.shape) and len(one)
    for one, spec in zip(given, specs, strict=True)
  )


def _cast(images: Any, specs: tuple[tf.TensorSpec, ...]) -> Any:
  given = zip(nested.parts(images), specs, strict=True)
  return nested.one_or_all([np.asarray(one, spec.dtype.as_numpy_dtype) for one, spec in given])


def _expected(specs: tuple[tf.TensorSpec, ...]) -> str:
  return ' and '.join(f'(n, {", ".join(map(str, spec.shape))})' for spec in specs)


def _came(images: Any) -> str:
  if images is None:
    return 'none'
  shapes = ' and '.join(str(np.shape(one)) for one in nested.parts(images))
  return f'an array of shape {shapes}'
