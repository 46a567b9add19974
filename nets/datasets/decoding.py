"""Decodes files while they are read; one that cannot be decoded is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.file_names import PathTable
from secateurs.utils.errors import UserError

_AT_A_TIME = 16


def decoded(
  places: tf.data.Dataset,
  paths: PathTable,
  labels: tf.Tensor,
  decode: Callable[[tf.Tensor], tf.Tensor],
) -> tf.data.Dataset:
  """Images and labels at some places, in their order.

  Args:
    places: int64 scalars; the same whenever they are read.
    paths: of the files.
    labels: of the files.
    decode: makes a tensor of known shape from a path.

  Returns:
    Pairs (image, label). Reading them raises an error that carries a UserError where a file cannot be
    decoded.
  """
  found = places.map(
    lambda i: (i, decode(paths[i]), labels[i]), num_parallel_calls=tf.data.AUTOTUNE
  )
  return without_failures(places.map(lambda i: (i, i)), found, lambda i: paths[i])


def without_failures(
  wanted: tf.data.Dataset, found: tf.data.Dataset, path_of: Callable[[tf.Tensor], tf.Tensor]
) -> tf.data.Dataset:
  """Images and labels, of which none may be missing.

  An operation that fails does not say of which file. Failures are therefore left out, and found where
  the keys of what is left are no longer those that were asked for.

  Args:
    wanted: pairs (key, number of the file), int64 from zero on; the same whenever they are read.
    found: (key, image, label) of the same keys, of known shapes; for an endless `wanted` that of
      `one_by_one`.
    path_of: the path of a file from its number.

  Returns:
    As of `decoded`.
  """
  found = found.ignore_errors()
  end = tf.constant(-1, tf.int64)
  _, *parts = found.element_spec
  nothing = tuple(tf.zeros(part.shape, part.dtype) for part in parts)
  pairs = tf.data.Dataset.zip(
    (
      wanted.concatenate(tf.data.Dataset.from_tensors((end, end))),
      found.concatenate(tf.data.Dataset.from_tensors((end, *nothing))),
    )
  )

  def checked(asked: tuple, given: tuple) -> tuple:
    (key, number), (place, image, label) = asked, given
    missing = tf.cond(
      key == place,
      lambda: False,
      lambda: tf.numpy_function(_complain, [path_of(number)], tf.bool),
    )
    with tf.control_dependencies([missing]):
      return tf.identity(place), image, label

  whole = pairs.map(checked, num_parallel_calls=1).filter(lambda place, *_: place >= 0)
  return whole.map(lambda _, image, label: (image, label), num_parallel_calls=1)


def one_by_one(
  wanted: tf.data.Dataset, make: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]
) -> tf.data.Dataset:
  """(key, image, label) of each pair, in their order; key -1 and zeros in place of one that fails.

  For endless datasets: where failures are left out and all files are gone, the next one never comes.

  Args:
    wanted: pairs (key, number of the file), int64 from zero on.
    make: (image, label) of known shapes from a pair.
  """
  specs = wanted.map(make).element_spec
  nothing = (tf.constant(-1, tf.int64), *(tf.zeros(spec.shape, spec.dtype) for spec in specs))

  def one(key: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
    made = tf.data.Dataset.from_tensors((key, number)).map(lambda k, n: (k, *make(k, n)))
    return made.ignore_errors().concatenate(tf.data.Dataset.from_tensors(nothing)).take(1)

  return wanted.interleave(
    one, cycle_length=_AT_A_TIME, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )


def cannot_be_decoded(path: str) -> UserError:
  """The refusal of a damaged file."""
  return UserError(
    f'{path} cannot be decoded: a complete JPEG or PNG file was expected, fix or delete it.'
  )


def _complain(path: bytes) -> np.bool_:
  raise cannot_be_decoded(path.decode(errors='backslashreplace'))
