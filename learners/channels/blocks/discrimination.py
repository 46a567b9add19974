"""Blocks of a network, and losses at auxiliary heads that show how well a block discriminates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.graph.counts.counting import part_of
from secateurs.utils.graph.counts.memory import MapBytes, map_bytes
from secateurs.utils.graph.flat.cuts import (
  calls_between,
  even_necks,
  first_calls,
  given,
  outputs_of,
  run_calls,
)
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.training.layerwise.maps import Maps
from secateurs.utils.training.tasks.objectives import TaskObjective
from secateurs.utils.training.tasks.task import Batch, Task


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
  """Consecutive layers with one discrimination-aware loss.

  Attributes:
    number: from 1.
    begin: index of its first call.
    end: index after its last one.
    tensor: number of its output, which its auxiliary head reads; None for the last block.
    units: what is pruned in it: units of which the first reader lies in it.
  """

  number: int
  begin: int
  end: int
  tensor: int | None
  units: list[Unit]


def find_blocks(flat: FlatModel, nb_stages: int, units: list[Unit]) -> list[Block]:
  """Divides a network into `nb_stages + 1` blocks of nearly as many convolutions each.

  Returns:
    The blocks, fewer where the network has not as many convolutions that one tensor parts.
  """
  first = first_calls(flat)
  cuts = even_necks(flat, nb_stages)
  bounds = [0, *(cut.position for cut in cuts), len(flat.calls)]
  tensors = [*(cut.tensor for cut in cuts), None]
  return [
    Block(
      number + 1,
      bounds[number],
      bounds[number + 1],
      tensor,
      [unit for unit in units if bounds[number] <= first[unit.readers[0]] < bounds[number + 1]],
    )
    for number, tensor in enumerate(tensors)
  ]


class BlockObjective:
  """L_p + L: what block-wise fine-tuning minimises; for the last block L alone.

  L is the objective of fine-tuning, distillation included; L_p the task's loss from the targets
  at the block's head. Deviation from the paper, as the
  document has it: one step on the sum, not one on each.
  """

  def __init__(
    self,
    flat: FlatModel,
    block: Block,
    head: keras.Model | None,
    objective: TaskObjective,
  ) -> None:
    self._flat, self._block, self._head = flat, block, head
    self._objective, self.teacher = objective, objective.teacher
    names = tuple(objective.metric_names)
    self.metric_names = names if head is None else (*names, 'loss_block')

  def __call__(self, batch: tuple) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Loss and metrics of a batch, see `Batch`, in training mode."""
    flat = self._flat
    values = run_calls(flat.calls, given(flat, batch[0]), training=True)
    loss, metrics = self._objective.of(outputs_of(flat, values), batch)
    if self._head is not None:
      outputs = self._head(tf.cast(values[self._block.tensor], tf.float32), training=True)
      known = Batch(*batch)
      metrics['loss_block'] = self._objective.task.loss(known.targets, outputs, known.weights)
      loss += metrics['loss_block']
    return loss, metrics


class LayerObjective:
  """L^(R) + L_p of the part of a network between a cut and the end of a block, in inference mode.

  L^(R) = sum over the layers to prune of ||Y - Y0||^2 / 2Q, with Y what a layer gives now, Y0 what
  it gave in the original network, and Q the number of values (Zhuang et al. 2018, eq. 3; for one
  layer, as there). A batch is an int32 vector of places in the cached tensors.
  """

  metric_names = ('loss_reconstruction', 'loss_discrimination')

  def __init__(
    self,
    flat: FlatModel,
    position: int,
    end: int | None,
    head: keras.Model | None,
    given: Mapping[int, Maps],
    targets: Mapping[int, Maps],
    labels: Any,
    task: Task,
  ) -> None:
    """Sets up the part.

    Args:
      flat: the network that is being pruned.
      position: calls before the cut.
      end: number of the tensor that L_p is computed from; None for the network's outputs.
      head: makes outputs of it; None if it holds the outputs themselves.
      given: all tensors that cross the cut, [n, ...] by number.
      targets: what the layers' outputs should be, [n, ...] by number.
      labels: what the network should give, [n, ...].
      task: gives L_p.
    """
    self._task = task
    self._flat, self._end, self._head = flat, end, head
    ends = flat.outputs if end is None else [end]
    self._calls = calls_between(flat, position, [*ends, *targets])
    read = {number for call in self._calls for number in call.inputs}
    self._given = {number: maps for number, maps in given.items() if number in read}
    self._dtypes = flat.dtypes
    self._targets, self._labels = dict(targets), labels

  @property
  def maps(self) -> MapBytes:
    """Feature maps of one sample in a step."""
    return map_bytes(self._flat, self._calls)

  @property
  def part(self) -> float:
    """The fraction of the network's multiply-adds that a sample costs in a forward pass."""
    return part_of(self._flat, self._calls)

  def __call__(self, batch: tf.Tensor) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Loss, and its two parts."""
    given = {n: maps.gather(batch, self._dtypes[n]) for n, maps in self._given.items()}
    values = run_calls(self._calls, given)
    reconstruction = tf.constant(0.0)
    for number, target in self._targets.items():
      error = tf.cast(values[number], tf.float32) - target.gather(batch, tf.float32)
      reconstruction += 0.5 * tf.reduce_mean(tf.square(error))
    found = outputs_of(self._flat, values) if self._end is None else values[self._end]
    outputs = tf.nest.map_structure(lambda one: tf.cast(one, tf.float32), found)
    if self._head is not None:
      outputs = self._head(outputs, training=False)
    labels = tf.nest.map_structure(lambda one: tf.gather(one, batch), self._labels)
    discrimination = self._task.loss(labels, outputs)
    metrics = {
      'loss_reconstruction': reconstruction,
      'loss_discrimination': discrimination,
    }
    return reconstruction + discrimination, metrics
