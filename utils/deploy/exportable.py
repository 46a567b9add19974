"""Checks what an export is given: the model and its images."""

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError

NB_PARITY_IMAGES = 64


def check_exportable(model: keras.Model) -> tuple[int, int, int]:
  """Returns the model's image shape (height, width, channels).

  Raises:
    UserError: not a tf_keras model with one image input of fixed size and one output, computed in
      float32.
  """
  if not isinstance(model, keras.Model):
    raise UserError(
      f'Cannot export a {type(model).__module__}.{type(model).__name__}; expected a Keras 2 model '
      '(import tf_keras as keras): build the network with tf_keras and load the weights into it.'
    )
  if len(model.inputs or ()) != 1 or len(model.outputs or ()) != 1:
    raise UserError(
      f"Model '{model.name}' has {len(model.inputs or ())} inputs and "
      f'{len(model.outputs or ())} outputs; expected a functional image model with one of each.'
    )
  shape = tuple(model.inputs[0].shape[1:])
  if len(shape) != 3 or None in shape:
    raise UserError(
      f"Model '{model.name}' takes inputs of shape {shape}; expected a fixed (height, width, "
      'channels): build it with an Input of that shape.'
    )
  for layer in model.submodules:
    compute = getattr(layer, 'compute_dtype', None)
    if isinstance(layer, keras.layers.Layer) and compute in ('bfloat16', 'float16'):
      raise UserError(
        f"Layer '{layer.name}' of model '{model.name}' computes in {compute}; expected float32, "
        'which is what TensorFlow Lite takes: rebuild the model in float32 and copy the weights.'
      )
  return shape


def calibration_images(images: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the images as float32.

  Raises:
    UserError: there are none, they have another shape than the model's, or are not finite.
  """
  came = 'none' if images is None else f'an array of shape {np.shape(images)}'
  if images is None or np.shape(images)[1:] != shape or not len(images):
    raise UserError(
      f'An int8 export needs calibration images of shape (n, {", ".join(map(str, shape))}), came '
      f'{came}; give a few hundred training images as the network sees them.'
    )
  images = np.asarray(images, np.float32)
  if not np.all(np.isfinite(images)):
    raise UserError(
      'The calibration images hold values that are not finite; expected training images as the '
      'network sees them: check the data pipeline.'
    )
  return images


def parity_inputs(
  images: np.ndarray | None, calibration: np.ndarray | None, shape: tuple[int, ...]
) -> np.ndarray:
  """Returns the first images of those given, else of the calibration images, else Gaussian noise.

  Raises:
    UserError: there are none, or they have another shape than the model's.
  """
  if images is None:
    images = calibration
  if images is None:
    return np.random.default_rng(0).standard_normal((NB_PARITY_IMAGES, *shape), np.float32)
  images = np.asarray(images[:NB_PARITY_IMAGES], np.float32)
  if images.shape[1:] != shape or not len(images):
    raise UserError(
      f'The parity images have shape {images.shape}, expected (n, '
      f'{", ".join(map(str, shape))}); give images as the network sees them.'
    )
  return images
