"""Shadow weights: a variable holds rounded weights, its shadow the exact ones that training moves.

A straight-through gradient is taken at the rounded weights and applied to the exact ones (Bengio et al.
2013, arXiv:1308.3432; Courbariaux et al. 2015, arXiv:1511.00363). Here the optimizer steps on the
rounded weights themselves, w -> w + d, and then, as a constraint after the step,

  shadow <- shadow + d,    w <- project(shadow).

For an optimizer whose step follows from gradients alone this is the straight-through step, whatever
layer the weights belong to: the network is not changed, and its weights are the rounded ones at all
times. Weight decay acts on the rounded weights, and Muon's step is a fraction of their norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from secateurs.utils.training.engine.masks import Masks


class Projection(Protocol):
  """What the rounded weights of one kernel follow from."""

  def start(self, kernel: np.ndarray, mask: np.ndarray) -> None:
    """Fits grid or codebook to a kernel; both arrays have its shape, `mask` is true for what stays."""

  def project(self) -> tf.Tensor:
    """The rounded kernel, of its shape, as it follows from the variables; runs in graph mode."""

  def move(self, change: tf.Tensor) -> None:
    """Applies the change, of the kernel's shape, that an optimizer made to it; runs in graph mode."""

  def variables(self) -> Mapping[str, tf.Variable]:
    """What a checkpoint must hold, by name."""


class ShadowWeights:
  """Projections of some kernels as one constraint of a training step.

  Zeros that a kernel has when the training starts stay zeros.

  Attributes:
    kernels: the variables that hold rounded weights, by name.
    projections: by the same names.
    masks: which weights stay.
  """

  def __init__(
    self, kernels: Mapping[str, tf.Variable], projections: Mapping[str, Projection]
  ) -> None:
    self.kernels, self.projections = dict(kernels), dict(projections)
    self.masks = Masks(list(self.kernels.values()))

  def start(self) -> None:
    """Fits all projections to the kernels as they are, and rounds the kernels."""
    for (name, kernel), mask in zip(self.kernels.items(), self.masks.masks, strict=True):
      values = kernel.numpy()
      mask.assign((values != 0).astype(np.float32))
      self.projections[name].start(values, values != 0)
    self.round()

  def round(self) -> None:
    """Rounds the kernels as the projections' variables are."""
    for (name, kernel), mask in zip(self.kernels.items(), self.masks.masks, strict=True):
      kernel.assign(self._rounded(name, mask))

  def apply(self, learning_rate: tf.Tensor | None = None) -> None:
    """Moves the shadows by what the optimizer did, and rounds again; a `hooks.Constraint`."""
    del learning_rate
    for (name, kernel), mask in zip(self.kernels.items(), self.masks.masks, strict=True):
      self.projections[name].move((kernel - self._rounded(name, mask)) * mask)
      kernel.assign(self._rounded(name, mask))

  def exact(self) -> dict[str, tf.Variable]:
    """What the rounded kernels follow from."""
    return {
      f'{key}/{name}': value
      for name, projection in self.projections.items()
      for key, value in projection.variables().items()
    }

  def tensors(self) -> dict[str, tf.Variable]:
    """Variables that a checkpoint must hold."""
    stays = zip(self.kernels, self.masks.masks, strict=True)
    return {**{f'stays/{name}': mask for name, mask in stays}, **self.exact()}

  def _rounded(self, name: str, mask: tf.Variable) -> tf.Tensor:
    rounded = self.projections[name].project()
    return tf.where(mask > 0, rounded, tf.zeros_like(rounded))
