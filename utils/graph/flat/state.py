"""State that a layer keeps outside its list of weights, and the proof that a copy has all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError

_KERAS_TENSOR = type(keras.Input((1,)))
_TOLERANCE = 1e-4
_OPEN_SIZE = 8


def becomes_constants(layer: keras.layers.Layer) -> bool:
  """Whether a copy has constants where the layer has weights: an adapted Normalization."""
  adapts = isinstance(layer, keras.layers.Normalization)
  return adapts and getattr(layer, 'adapt_mean', None) is not None


def held_state(layer: keras.layers.Layer) -> dict[str, Any]:
  """What a layer has adapted to, as entries of its config; empty for layers that adapt to nothing.

  tf_keras leaves it out of the config, so that it is lost wherever a network is made from its config
  and its weights: a Normalization computes with tensors that were made of its weights once. A copy
  that has it in its config keeps it from then on.
  """
  if becomes_constants(layer):
    return {
      'mean': layer.adapt_mean.numpy().tolist(),
      'variance': layer.adapt_variance.numpy().tolist(),
    }
  if isinstance(layer, keras.layers.Discretization):
    bounds = [float(bound) for bound in layer.bin_boundaries or ()]
    return {'bin_boundaries': bounds, 'num_bins': None} if bounds else {}
  if hasattr(layer, 'get_vocabulary') and 'vocabulary' in layer.get_config():
    return _held_vocabulary(layer)
  return {}


def _held_vocabulary(layer: keras.layers.Layer) -> dict[str, Any]:
  words = layer.get_vocabulary(include_special_tokens=False)
  if not words:
    return {}
  held: dict[str, Any] = {
    'vocabulary': [getattr(word, 'item', lambda word=word: word)() for word in words]
  }
  weights = getattr(getattr(layer, '_lookup_layer', layer), 'idf_weights', None)
  if weights is not None:
    held['idf_weights'] = np.asarray(weights)[-len(words) :].tolist()
  return held


def copy_state(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
  """Brings a copy whose weights are set to the layer's state: what was adapted, vocabularies.

  A Normalization computes its mean and variance from its weights once, when it is adapted or loaded;
  lookups keep a table, and a Discretization its bounds.
  """
  if hasattr(layer, 'get_vocabulary') and hasattr(copy, 'set_vocabulary'):
    _copy_vocabulary(layer, copy)
  if isinstance(layer, keras.layers.Discretization):
    copy.bin_boundaries = layer.bin_boundaries
  if hasattr(copy, 'finalize_state') and copy.built:
    copy.finalize_state()


def _copy_vocabulary(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
  words = layer.get_vocabulary(include_special_tokens=False)
  if not words or copy.get_vocabulary(include_special_tokens=False) == words:
    return
  inner = getattr(layer, '_lookup_layer', layer)
  weights = getattr(inner, 'idf_weights', None)
  if weights is None:
    copy.set_vocabulary(words)
  else:
    copy.set_vocabulary(words, np.asarray(weights)[-len(words) :])


def prove_copy(layer: keras.layers.Layer, copy: keras.layers.Layer, args: Any, kwargs: Any) -> None:
  """Compares a copy with its layer on random numbers of the shapes that it is called with.

  Layers that draw random numbers at inference, keep state from call to call, or do not work on
  random numbers are not compared.

  Args:
    layer: a layer of no known class, whose copy has its config and weights.
    copy: the copy.
    args: what the copy is called with, Keras tensors among them.
    kwargs: likewise.

  Raises:
    UserError: if the outputs differ.
  """
  if getattr(layer, 'stateful', False):
    return
  try:
    rng = np.random.default_rng(0)
    args, kwargs = tf.nest.map_structure(lambda value: _numbers(rng, value), (args, dict(kwargs)))
    if layer._call_spec.expects_training_arg:
      kwargs['training'] = False
    expected, again = _called(layer, args, kwargs), _called(layer, args, kwargs)
    found = _called(copy, args, kwargs)
  except Exception:
    # Whatever a user's layer may raise on numbers that mean nothing to it.
    return
  if not _alike(expected, again) or _alike(expected, found):
    return
  raise UserError(
    f'The copy of layer {layer.name!r} ({type(layer).__name__}) gives other outputs than the layer'
    ' itself: it keeps state that is neither among its weights nor in its get_config(). Make that'
    ' state a weight (add_weight, trainable=False), or return it from get_config().'
  )


def _numbers(rng: np.random.Generator, value: Any) -> Any:
  if not isinstance(value, _KERAS_TENSOR):
    return value
  shape = [2 if axis == 0 else _OPEN_SIZE for axis in range(value.shape.rank)]
  shape = [size or open_size for size, open_size in zip(value.shape, shape)]
  dtype = tf.as_dtype(value.dtype)
  if dtype.is_integer:
    return tf.constant(rng.integers(0, 2, shape), dtype)
  return tf.constant(rng.normal(size=shape), dtype)


def _called(layer: keras.layers.Layer, args: Any, kwargs: Any) -> list[np.ndarray]:
  return [np.asarray(one) for one in tf.nest.flatten(layer(*args, **kwargs))]


def _alike(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
  return len(left) == len(right) and all(
    one.shape == other.shape
    and np.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
    for one, other in zip(left, right)
  )
