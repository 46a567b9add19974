"""Actions that are due after certain training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping


class Event:
  """Something that is due after certain steps.

  Args:
    action: called with the number of steps done and the means of the metrics since the last event
      of this kind.
    every: due after every so many steps.
    at: further steps after which it is due.
  """

  def __init__(
    self,
    action: Callable[[int, dict[str, float]], None],
    every: int | None = None,
    at: Iterable[int] = (),
  ) -> None:
    self.action, self.every, self.at = action, every, sorted(set(at))
    self._sums: dict[str, float] = {}
    self._count = 0

  def following(self, step: int) -> int | None:
    """The first step after `step` after which this is due."""
    candidates = [at for at in self.at if at > step]
    if self.every:
      candidates.append((step // self.every + 1) * self.every)
    return min(candidates, default=None)

  def feed(self, nb_steps: int, means: Mapping[str, float]) -> None:
    """Takes in the means over some more steps."""
    for name, mean in means.items():
      self._sums[name] = self._sums.get(name, 0.0) + mean * nb_steps
    self._count += nb_steps

  def fire(self, step: int) -> None:
    """Runs the action and starts collecting afresh."""
    means = {name: total / max(self._count, 1) for name, total in self._sums.items()}
    self._sums, self._count = {}, 0
    self.action(step, means)
