"""Samples as users have them: inputs, targets and weights, in the form that a network reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError

_SEQUENCES = (tuple, list)
_NB_TARGETS = 1000  # Of which the first decide over a task.


@dataclasses.dataclass(frozen=True)
class InputSpec:
  """One input of a network.

  Attributes:
    name: of the input layer.
    shape: of a sample.
    dtype: what the network reads.
  """

  name: str
  shape: tuple[int | None, ...]
  dtype: tf.DType

  def __str__(self) -> str:
    return f'{self.name} {self.shape}'


def input_specs(model: keras.Model) -> tuple[InputSpec, ...]:
  """The inputs of a functional model, in order."""
  return tuple(
    InputSpec(layer.name, tuple(tensor.shape[1:]), tf.as_dtype(tensor.dtype))
    for layer, tensor in zip((t._keras_history.layer for t in model.inputs), model.inputs)
  )


def parts_of(data: Any, where: str) -> tuple[Any, Any, Any]:
  """(inputs, targets, weights or None) of arrays, or of an element (or its spec) of a pipeline.

  Raises:
    UserError: there are not two or three parts.
  """
  if isinstance(data, _SEQUENCES) and len(data) in (2, 3):
    inputs, targets, *weights = data
    return inputs, targets, weights[0] if weights else None
  came = f'{len(data)} parts' if isinstance(data, _SEQUENCES) else f'a {type(data).__name__}'
  raise UserError(
    f'The {where} data must be (images, labels) as arrays or as elements of a tf.data.Dataset, with '
    f'weights of samples as a third part if there are any, but {came} came.'
  )


def require_pairs(spec: Any, where: str) -> tuple:
  """The spec of a pipeline's elements, which are pairs, or triples with weights.

  Raises:
    UserError: they are something else.
  """
  if not isinstance(spec, tuple) or len(spec) not in (2, 3):
    raise UserError(f'The {where} pipeline must give (image, label) pairs, but it gives {spec}.')
  return spec


def one_for_each(inputs: Any, specs: Sequence[InputSpec], where: str) -> list[Any]:
  """What goes into each input: from a tensor, a sequence in the model's order, or a dict by name.

  Raises:
    UserError: something is missing.
  """
  names = [spec.name for spec in specs]
  if isinstance(inputs, Mapping):
    missing = [name for name in names if name not in inputs]
    if len(specs) == 1 and len(inputs) == 1:
      return list(inputs.values())
    if missing:
      raise UserError(
        f'The {where} inputs are {", ".join(map(str, inputs))}, but the model reads '
        f'{", ".join(names)}: name them alike.'
      )
    return [inputs[name] for name in names]
  if len(specs) == 1:
    single = isinstance(inputs, _SEQUENCES) and len(inputs) == 1 and hasattr(inputs[0], 'shape')
    return [inputs[0] if single else inputs]
  if not isinstance(inputs, _SEQUENCES) or len(inputs) != len(specs):
    raise UserError(
      f'The model reads {len(specs)} inputs ({", ".join(names)}), but the {where} data does not '
      'give one '
      'for each of them: give a tuple in that order, or a dictionary by name.'
    )
  return list(inputs)


def like_spec(given: tf.Tensor, spec: InputSpec) -> tf.Tensor:
  """A batch as an input reads it: its type, and an axis of one channel where it was left out."""
  if len(given.shape) == len(spec.shape) and spec.shape and spec.shape[-1] == 1:
    given = given[..., None]
  return tf.ensure_shape(tf.cast(given, spec.dtype), (None, *spec.shape))


def fits(shape: Sequence[int | None], spec: InputSpec) -> bool:
  """Whether samples of a shape can be read; an axis of one channel may be left out."""
  if len(shape) == len(spec.shape) - 1 and spec.shape[-1] == 1:
    shape = (*shape, 1)
  return tf.TensorShape(shape).is_compatible_with(spec.shape)


def joined(parts: Sequence[Any]) -> Any:
  """One part as it is, several as a tuple."""
  return parts[0] if len(parts) == 1 else tuple(parts)


def as_arrays(structure: Any, nb_outputs: int = 1) -> Any:
  """A structure of targets with arrays in place of lists, tables and tensors."""
  if isinstance(structure, Mapping):
    return {key: np.asarray(value) for key, value in structure.items()}
  if nb_outputs > 1 and isinstance(structure, _SEQUENCES):
    return tuple(np.asarray(value) for value in structure)
  return np.asarray(structure)


def labels_of(data: Any, output: str | None) -> Any:
  """Data whose labels are a dict, with those of one output instead; other data as it is.

  Raises:
    UserError: there are no labels of that output.
  """
  if isinstance(data, tf.data.Dataset):
    spec = data.element_spec
    parts = spec if isinstance(spec, tuple) and len(spec) in (2, 3) else ()
  else:
    parts = data if isinstance(data, _SEQUENCES) and len(data) in (2, 3) else ()
  if not parts or not isinstance(parts[1], Mapping):
    return data
  labels = parts[1]
  if output is None and len(labels) == 1:
    output = next(iter(labels))
  if output not in labels:
    raise UserError(
      f'The labels are for the outputs {", ".join(labels)}, but those of output {output} were '
      'expected: name the output of the model and its labels alike.'
    )

  def chosen(inputs: Any, labels: Any, *weights: Any) -> tuple:
    weights = [one[output] if isinstance(one, Mapping) else one for one in weights]
    return (inputs, labels[output], *weights)

  return data.map(chosen) if isinstance(data, tf.data.Dataset) else chosen(*data)


def some_targets(data: Any, nb_outputs: int = 1) -> Any:
  """Targets of the first samples of arrays or of a pipeline, as arrays; None for a whole data set.

  Raises:
    UserError: see `parts_of`.
  """
  if isinstance(data, tf.data.Dataset):
    return _of_pipeline(data)
  if data is None or hasattr(data, 'train_batches'):
    return None
  _, targets, _ = parts_of(data, 'training')
  return tf.nest.map_structure(lambda one: one[:_NB_TARGETS], as_arrays(targets, nb_outputs))


def some_shapes(data: Any, specs: Sequence[InputSpec]) -> list[tuple[int | None, ...]] | None:
  """Shapes of samples for each input, with None where a pipeline does not say; None for a data set."""
  if data is None or hasattr(data, 'train_batches'):
    return None
  is_pipeline = isinstance(data, tf.data.Dataset)
  element = require_pairs(data.element_spec, 'training') if is_pipeline else data
  given = one_for_each(parts_of(element, 'training')[0], specs, 'training')
  if any(isinstance(one, tf.TypeSpec) and one.shape.rank is None for one in given):
    return None
  shapes = [tuple(one.shape if hasattr(one, 'shape') else np.shape(one)) for one in given]
  return [
    shape[-len(spec.shape) :] if len(shape) >= len(spec.shape) else shape
    for shape, spec in zip(shapes, specs, strict=True)
  ]


def _of_pipeline(data: tf.data.Dataset) -> Any:
  inputs, targets, _ = parts_of(require_pairs(data.element_spec, 'training'), 'training')
  if not all(isinstance(one, tf.TensorSpec) for one in tf.nest.flatten((inputs, targets))):
    raise UserError(
      'The training pipeline gives ragged or sparse tensors, but dense ones were expected: pad '
      'them to one length, as with padded_batch() or to_tensor(), or use tf.sparse.to_dense().'
    )
  first = next(iter(data.take(1)), None)
  if first is None:
    raise UserError('The training pipeline is empty.')
  return tf.nest.map_structure(lambda one: np.atleast_1d(one.numpy())[:_NB_TARGETS], first[1])


def class_notes(train: np.ndarray | None, evaluation: np.ndarray | None) -> list[str]:
  """Sentences about classes that are missing where a reader would not expect it.

  Args:
    train: class numbers of the training samples, [n]; None where targets are something else.
    evaluation: those of the evaluation samples.
  """
  found = []
  for labels, where in ((train, 'training'), (evaluation, 'evaluation')):
    if labels is not None and len(known := np.unique(labels)) == 1:
      found.append(f'All samples of the {where} data are of one class, {known[0]}.')
  if train is not None and evaluation is not None:
    unknown = np.setdiff1d(evaluation, train)
    if len(unknown):
      named = ', '.join(map(str, unknown[:5])) + ', ...' * (len(unknown) > 5)
      found.append(f'The evaluation data has classes that the training data lacks: {named}.')
  return found
