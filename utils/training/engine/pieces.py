"""Loss and gradients of a batch that is run piece by piece, so that memory is that of one piece.

The mean over a batch of n samples is the mean over its pieces, each weighted by its samples:

  loss = sum_k (n_k / n) loss_k,   gradient = sum_k (n_k / n) gradient_k

so that the result is that of the whole batch to rounding, wherever samples do not see each other. Batch
normalisation in training mode does let them: it takes its statistics over each piece, as it does over
each process's part of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from secateurs.utils.training.models.norm_kernels import suited_to_processor

Objective = Callable[[Any], tuple[tf.Tensor, Mapping[str, tf.Tensor]]]


def value_and_gradients(
  objective: Objective,
  variables: Sequence[tf.Variable],
  batch: Any,
  nb_pieces: int = 1,
) -> tuple[tf.Tensor, dict[str, tf.Tensor], list[tf.Tensor | None]]:
  """Loss, metrics and gradients of a batch; runs in graph mode.

  Args:
    objective: mean loss and metrics of samples, see `loop.Objective`.
    variables: what gradients are taken by.
    batch: a tensor [n, ...] or a structure of such; n is at least `nb_pieces`.
    nb_pieces: into how many nearly equal pieces it is cut.

  Returns:
    (loss, metrics, gradients): a gradient is None where the loss does not reach the variable.
  """
  if nb_pieces == 1:
    return _of(objective, variables, batch)
  size = tf.shape(tf.nest.flatten(batch)[0])[0]
  with tf.control_dependencies(
    [tf.debugging.assert_greater_equal(size, nb_pieces, 'A piece would have no sample.')]
  ):
    size = tf.identity(size)
  names, reached = [], []  # Without types: autograph takes none of what inner functions change.

  def add(number: tf.Tensor, loss: tf.Tensor, values: tf.Tensor, sums: list[tf.Tensor]) -> tuple:
    start, stop = number * size // nb_pieces, (number + 1) * size // nb_pieces
    piece = tf.nest.map_structure(lambda x: x[start:stop], batch)
    mine, metrics, gradients = _of(objective, variables, piece)
    names[:] = list(metrics)
    reached[:] = [gradient is not None for gradient in gradients]
    share = tf.cast(stop - start, tf.float32) / tf.cast(size, tf.float32)
    values = values + share * tf.stack([tf.cast(value, tf.float32) for value in metrics.values()])
    sums = [
      total if g is None else total + tf.cast(share, total.dtype) * tf.cast(g, total.dtype)
      for total, g in zip(sums, gradients, strict=True)
    ]
    return number + 1, loss + share * tf.cast(mine, tf.float32), values, sums

  zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
  nb_metrics = len(objective.metric_names)
  _, loss, values, sums = tf.while_loop(
    lambda number, *_: number < nb_pieces,
    add,
    (tf.constant(0), tf.constant(0.0), tf.zeros([nb_metrics]), zeros),
    parallel_iterations=1,
    maximum_iterations=nb_pieces,
  )
  gradients = [total if known else None for total, known in zip(sums, reached, strict=True)]
  return loss, dict(zip(names, tf.unstack(values, nb_metrics), strict=True)), gradients


def _of(objective: Objective, variables: Sequence[tf.Variable], batch: Any) -> tuple:
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(variables)
    with suited_to_processor():
      loss, metrics = objective(batch)
  gradients = tape.gradient(loss, variables)
  return (
    loss,
    dict(metrics),
    [None if g is None else tf.convert_to_tensor(g) for g in gradients],
  )
