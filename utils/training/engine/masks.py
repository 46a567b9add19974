"""Weight masks: which weights stay, exactly as many as asked, and how they are kept at zero.

A mask has the shape of its variable and holds 1 for a weight that stays and 0 for one that is pruned.
Choosing (`patterns`) is pure NumPy that runs a few dozen times in a run; keeping (`Masks.apply`) is
one selection per variable inside the compiled step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from secateurs.utils.training import distributed
from secateurs.utils.training.engine.patterns import Pattern, Unstructured


def nb_kept(size: int, sparsity: float) -> int:
  """Number of weights that stay of `size` at a sparsity in [0, 1]: at least one.

  The number of zeros is `sparsity * size` rounded half up, so that the achieved sparsity is within
  half a weight of the target; sparsity 1 keeps the floor of one weight.
  """
  return max(size - int(np.floor(sparsity * size + 0.5)), 1)


class Masks:
  """Masks over some variables.

  Attributes:
    variables: what is masked.
    masks: float32 variables, in the order of `variables`.
    changes: whether the masks may change while a network trains.
  """

  changes: ClassVar[bool] = False

  def __init__(
    self, variables: Sequence[tf.Variable], masks: Sequence[tf.Tensor | np.ndarray] | None = None
  ) -> None:
    """`masks`: arrays of the variables' shapes; default: nothing is masked."""
    self.variables = list(variables)
    values = [tf.ones_like(v) for v in self.variables] if masks is None else masks
    self.masks = [tf.Variable(v, trainable=False, dtype=tf.float32) for v in values]

  def of(self, variable: tf.Variable) -> tf.Variable | None:
    """The mask of a variable; None for one that is not masked."""
    pairs = zip(self.variables, self.masks, strict=True)
    return next((mask for own, mask in pairs if own is variable), None)

  def apply(self, learning_rate: tf.Tensor | None = None) -> None:
    """Sets pruned weights to zero; a `hooks.Constraint`, whatever the rate.

    A product would leave -0.0 where weights were negative, which costs a bit each in a packed file.
    """
    del learning_rate
    for variable, mask in zip(self.variables, self.masks, strict=True):
      variable.assign(tf.where(mask > 0, variable, tf.zeros_like(variable)))

  def sparsities(self) -> list[float]:
    """Share of pruned weights per variable."""
    return [1.0 - float(np.mean(mask.numpy())) for mask in self.masks]

  def sparsity(self) -> float:
    """Share of pruned weights over all masked variables."""
    sizes = [int(np.prod(mask.shape)) for mask in self.masks]
    return float(np.average(self.sparsities(), weights=sizes)) if sizes else 0.0


class MaskSet(Masks):
  """Masks chosen by magnitude, with the values that pruned weights had when they were masked.

  A weight that is masked keeps its last unpruned value in a backup, so that a later update may bring
  it back (the masks are chosen from the backups, not from zeros).

  Attributes:
    backups: float32 variables with the unpruned weights.
  """

  changes = True

  def __init__(
    self,
    variables: Sequence[tf.Variable],
    pattern: Pattern | None = None,
    allowed: Sequence[np.ndarray | None] | None = None,
  ) -> None:
    """Masks what may never stay, and nothing else yet.

    Args:
      variables: what is masked.
      pattern: where zeros may lie; default: anywhere.
      allowed: for each variable a bool array of its shape with what may ever stay, or None for all.
    """
    self._allowed = [
      np.ones(variable.shape, bool) if mask is None else mask
      for variable, mask in zip(variables, allowed or [None] * len(variables), strict=True)
    ]
    super().__init__(variables, [mask.astype(np.float32) for mask in self._allowed])
    self._pattern = pattern or Unstructured()
    self.backups = [tf.Variable(v, trainable=False) for v in self.variables]

  def update(self, sparsities: Sequence[float], *, revive: bool = True) -> None:
    """Chooses new masks by magnitude, one sparsity in [0, 1] per variable, and applies them.

    Weights are compared by the values that they last had while unpruned, so that pruned ones may
    regrow. If `revive` is unset they count as zero. With several processes all take the chief's choice.
    """
    for variable, mask, backup, sparsity, allowed in zip(
      self.variables, self.masks, self.backups, sparsities, self._allowed, strict=True
    ):
      unpruned = np.where(mask.numpy() > 0, variable.numpy(), backup.numpy() if revive else 0)
      unpruned = np.where(allowed, unpruned, 0)
      kept = self._pattern.mask(unpruned, nb_kept(unpruned.size, sparsity)) & allowed
      backup.assign(unpruned)
      mask.assign(kept.astype(np.float32))
      variable.assign(np.where(kept, unpruned, 0))
    distributed.broadcast_variables([*self.masks, *self.backups, *self.variables])

  def reset(self) -> None:
    """Takes off all masks of what may stay, and the variables' values as they are."""
    for variable, mask, backup, allowed in zip(
      self.variables, self.masks, self.backups, self._allowed, strict=True
    ):
      mask.assign(allowed.astype(np.float32))
      backup.assign(variable)

  def tensors(self, names: Sequence[str]) -> Mapping[str, tf.Variable]:
    """Variables that a checkpoint must hold, by names given per variable."""
    entries = {f'mask/{name}': mask for name, mask in zip(names, self.masks, strict=True)}
    entries |= {f'backup/{name}': backup for name, backup in zip(names, self.backups, strict=True)}
    return entries
