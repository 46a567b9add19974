"""What may be added to a training step, and the order in which it runs.

One step, and what comes after it, in this order:

  1. objective: loss and metrics of a batch, and the gradients (means over all processes);
  2. penalty gradients: each `Penalty` adds its terms to the gradients;
  3. optimizer: steps on the variables;
  4. constraints: each `Constraint` changes variables after the optimizer (a proximal step, masks);
  5. averages of weights, where the training ends in them (`averages`);
  6. structural events: `loop.Event`s that are due after this step and may change masks or structure;
  7. summary: metrics are written;
  8. callbacks of the user, at the end of an epoch;
  9. checkpoint: what is saved has seen all of the above.

1 to 5 run inside the compiled step, 6 to 9 in Python between two compiled calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import tensorflow as tf

from secateurs.utils.training.engine.events import Event


class Penalty(Protocol):
  """A term of the loss that is given by its gradient alone."""

  def __call__(self, variables: Sequence[tf.Variable]) -> Sequence[tf.Tensor | None]:
    """The term's gradient by each variable, of its shape, or None; runs in graph mode.

    Must be the same on all processes: it is added to gradients that are means over them.
    """


class Constraint(Protocol):
  """What variables must fulfil after each step of the optimizer."""

  def apply(self, learning_rate: tf.Tensor) -> None:
    """Changes the variables in place; runs in graph mode.

    Args:
      learning_rate: the rate of the step that was just made, scalar float32.
    """


@dataclasses.dataclass(frozen=True)
class WeightDecay:
  """The gradient of factor / 2 * ||w||^2, without a pass over all weights for its value.

  Attributes:
    factor: of the L2 term.
    decayed: the variables that it is taken over.
  """

  factor: float
  decayed: Iterable[tf.Variable]

  def __call__(self, variables: Sequence[tf.Variable]) -> list[tf.Tensor | None]:
    """factor * w for the variables in `decayed`."""
    decayed = {variable.ref() for variable in self.decayed}
    return [self.factor * v if v.ref() in decayed else None for v in variables]


@dataclasses.dataclass(frozen=True)
class Hooks:
  """What a phase adds to its training, see the module's text for the order.

  Attributes:
    penalties: added to the gradients.
    constraints: applied after the optimizer, in this order; masks last.
    events: structural events, fired in this order before summaries and checkpoints.
    metrics: further metrics at a summary, by name.
  """

  penalties: Sequence[Penalty] = ()
  constraints: Sequence[Constraint] = ()
  events: Sequence[Event] = ()
  metrics: Callable[[], Mapping[str, float]] = dict
