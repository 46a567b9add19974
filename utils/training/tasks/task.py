"""What a network learns and how it is judged: the interface of all tasks.

Learners, searches, reports and pages know a task and its score, never what the score is. A task fits
networks of several outputs (outputs and targets may be tuples or dictionaries of tensors), targets
that are no class numbers, weights of samples, and scores that need all samples at once (`records`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.pictures import Picture
from secateurs.utils.training.tasks.scores import Evaluation

Tensors = Any
"""A tensor, or a tuple or dictionary of tensors."""


class Batch(NamedTuple):
  """Samples of one step or of one call of an evaluation; tuples of a data set in this order.

  Attributes:
    inputs: what the network reads, [n, ...].
    targets: what it should give.
    weights: how much each sample counts, float [n]; None: all alike.
    taught: the teacher's outputs for the inputs, where these are known already.
  """

  inputs: Tensors
  targets: Tensors
  weights: tf.Tensor | None = None
  taught: Tensors | None = None


class Task(abc.ABC):
  """What a network learns and how it is judged.

  Outputs are always those of the network that is trained (logits, say); `deployable` and
  `trained_outputs` translate to and from what exported files give.

  Attributes:
    name: of the task.
    metric_names: names of what `metrics` gives.
    user_metrics: those of them that are the user's own, shown in progress lines.
    percent_metrics: those of `metric_names` in [0, 1] that are shown in percent.
    total_types: dtypes of what `totals` gives, by name; a TensorSpec where it is no scalar.
    nb_outputs: outputs of the network; targets in a list are then one for each.
    draws: whether `pictures` gives any.
    nb_drawn: of how many samples it shows something at the most.
    collects: whether the score needs what `records` gives of every sample.
  """

  name: ClassVar[str]
  metric_names: Sequence[str] = ()
  user_metrics: Sequence[str] = ()
  percent_metrics: Sequence[str] = ()
  total_types: Mapping[str, tf.DType | tf.TensorSpec]
  nb_outputs: int = 1
  draws: bool = False
  nb_drawn: int = 500
  collects: bool = False

  # Targets as users have them.

  def canonical(self, targets: Tensors) -> Tensors:
    """Targets of a batch [n, ...] in the form that `loss` takes; runs in graph mode.

    Raises:
      UserError: their shape is not that of the outputs.
    """
    return targets

  def require_targets(self, targets: Any, where: str) -> None:
    """Checks canonical targets of some samples, as arrays.

    Args:
      targets: [n, ...].
      where: which data they are of, such as training.

    Raises:
      UserError: there are values that the task has no meaning for.
    """
    del targets, where

  def class_numbers(self, targets: Tensors) -> tf.Tensor:
    """The class of each sample, or of each position, int32 [n, ...], for weights of classes.

    Raises:
      UserError: targets are no classes.
    """
    del targets
    raise UserError(
      f'class_weight was given, but targets of task {self.name} are no classes: give weights of '
      'samples as a third part of the data.'
    )

  # Training.

  @abc.abstractmethod
  def loss(self, targets: Tensors, outputs: Tensors, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Mean loss of a batch, scalar float32; runs in graph mode.

    Args:
      targets: canonical ones, [n, ...].
      outputs: the network's, [n, ...].
      weights: how much each sample counts, float [n]; None: all alike.
    """

  @abc.abstractmethod
  def metrics(
    self, targets: Tensors, outputs: Tensors, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Means over a batch that training shows, scalars float32 by name; arguments as of `loss`.

    It runs in graph mode.
    """

  @abc.abstractmethod
  def distillation(self, taught: Tensors, outputs: Tensors, temperature: float) -> tf.Tensor:
    """Loss of a batch's outputs against a teacher's, scalar float32; runs in graph mode.

    Args:
      taught: the teacher's outputs, of the shapes of `outputs`.
      outputs: the network's.
      temperature: softens both where the task has such a thing.
    """

  def require_teacher(self, teacher: keras.Model, student: keras.Model) -> None:
    """Checks that one network can teach another.

    Raises:
      UserError: it cannot.
    """
    del teacher, student

  # Judging.

  @abc.abstractmethod
  def totals(
    self, targets: Tensors, outputs: Tensors, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Sums over a batch, of `total_types`; they are added up over batches and processes.

    Arguments are those of `loss`.
    """

  def records(self, targets: Tensors, outputs: Tensors) -> dict[str, tf.Tensor]:
    """What must be kept of every sample, [n, ...] each, of equal shapes in all batches."""
    del targets, outputs
    return {}

  def hits(self, targets: Tensors, outputs: Tensors) -> tf.Tensor | None:
    """Which samples came out right, bool [n], where the score is the fraction of these; else None."""
    del targets, outputs

  @abc.abstractmethod
  def evaluation(
    self, totals: Mapping[str, float | np.ndarray], records: Mapping[str, np.ndarray]
  ) -> Evaluation:
    """Score, loss and figures of a data set.

    Args:
      totals: the sums of `totals` over all batches, by name.
      records: what `records` gave, of all samples, [n, ...] by name; empty if `collects` is false.
    """

  @abc.abstractmethod
  def divergence(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """How far a changed network's outputs [n, ...] are from the original's, for each sample, float [n].

    Zero where they are equal, positive elsewhere; needs no targets.
    """

  def guess_note(self, evaluation: Evaluation) -> str | None:
    """A sentence if the score is no better than a guess, within the noise; None if it is."""
    del evaluation

  # Deployment.

  def deployable(self, model: keras.Model) -> keras.Model:
    """A trained model as it is exported, such as with a softmax at its end."""
    return model

  def trained(self, model: keras.Model) -> keras.Model:
    """A model of this task from a file, as it is trained; the inverse of `deployable`."""
    return model

  def trained_outputs(self, outputs: np.ndarray) -> np.ndarray:
    """What the trained network would have given, from what an exported file gives, [n, ...] each."""
    return outputs

  def agreement(self, reference: Any, outputs: Any) -> float | None:
    """Fraction of the decisions that two files' outputs agree in; None where nothing is decided."""
    del reference, outputs

  def pictures(self, inputs: Any, targets: Any, before: Any, after: Any) -> Sequence[Picture]:
    """What a report shows of some evaluation samples [n, ...].

    Args:
      inputs: of the network.
      targets: canonical ones.
      before: outputs of the original network.
      after: outputs of the compressed network.
    """
    del inputs, targets, before, after
    return []

  def further_formats(self) -> Mapping[str, Callable[..., Any]]:
    """Writers of files that networks of this task have beside the usual ones, by format.

    Formats are those of `deploy.export_files.ENDINGS`, and writers its `Writer`s.
    """
    return {}

  # Auxiliary heads, for learners that ask how much a feature map says about the targets.

  def make_head(self, shape: tuple[int | None, ...], name: str, seed: int) -> keras.Model:
    """A small model from a feature map to outputs that `loss` judges.

    Args:
      shape: of the map, batch first.
      name: of the model.
      seed: of its weights.
    """
    raise NotImplementedError(f'Task {self.name} has no auxiliary heads.')

  def start_head(self, head: keras.Model, maps: Any, targets: np.ndarray) -> None:
    """Gives a new head weights that suit the maps [n, ...] of some samples, read by slices."""
    del head, maps, targets

  # Checks.

  def identity(self) -> dict[str, str]:
    """What distinguishes this task from others of its kind, for resumed runs."""
    return {}

  def check(self) -> None:
    """Tries the user's functions on made-up samples, before any training.

    Raises:
      UserError: one of them does not work.
    """
    return None
