"""How much each layer can lose: the divergence of the outputs while one layer is pruned alone.

One part at a time (a unit of channels, a kernel) is pruned at several ratios, with a refit of what is
left if there is one; all others stay whole. What is measured is how far the outputs then are from the
original network's (`Task.divergence`; for a classifier KL(p || q) = sum over classes of p log(p / q),
mean over images), which needs no targets. Layers before the part do not change, so that their maps are
computed once. Added up over the parts, these curves predict well enough what a network loses in which
all of them are pruned to allocate a budget: what costs least goes first. Scans of one layer at a time
are those of Han et al. 2015 (arXiv:1506.02626, figure 6) and Li et al. 2017 (arXiv:1608.08710,
figure 2), which take accuracy; the divergence, which is smooth and rises from zero, and the refit are
this project's own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tf_keras as keras
from scipy.interpolate import PchipInterpolator

from secateurs.learners.run.training.workers import Workers
from secateurs.utils import nested
from secateurs.utils.graph.counts.counting import macs_of
from secateurs.utils.graph.flat.cuts import outputs_of
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed, tally
from secateurs.utils.training.layerwise.frontier import Frontier, bytes_per_image
from secateurs.utils.training.layerwise.maps import Maps
from secateurs.utils.training.tasks.evaluation import Evaluation, evaluate_function
from secateurs.utils.training.tasks.task import Task

NB_IMAGES = 500
MAX_BYTES = 1 << 30
_COMPILED_FROM = 3e10  # Multiply-adds of all runs at one cut: for fewer, compiling takes longer.

Curve = list[tuple[float, float]]
"""(share that is gone, divergence or loss), with rising shares; the first is the whole network's."""


@dataclasses.dataclass(frozen=True)
class Part:
  """What is pruned alone.

  Attributes:
    name: of the curve.
    start: number of the first call that sees a change.
    points: rising shares, with what prunes the network by each.
    restore: makes the network whole again.
  """

  name: str
  start: int
  points: Sequence[tuple[float, Callable[[], None]]]
  restore: Callable[[], None]


def nb_scanned(model: keras.Model, parts: Sequence[Part], nb_given: int) -> int:
  """How many of some samples `scan` takes: those whose maps take at most 1 GiB in each process."""
  flat = flatten_model(model)
  need = max((bytes_per_image(flat, part.start) for part in parts), default=1)
  return min(nb_given, max(MAX_BYTES // need, 1) * distributed.size())


def scan(
  model: keras.Model,
  parts: Sequence[Part],
  images: Any,
  task: Task,
  progress: Callable[[int, int, str, Curve], None] | None = None,
  targets: Any = None,
  further: Sequence[tuple[keras.Model, Sequence[Part]]] = (),
  *,
  by_loss: bool = False,
) -> dict[str, Curve]:
  """Measures each part alone; curves by part name.

  Args:
    model: a network, which parts change and restore.
    parts: what is measured.
    images: inputs [n, ...]; each process passes all of them and runs its share of the first
      `nb_scanned`.
    task: says how far outputs are apart.
    progress: called after each part with its number, how many there are, its name and its curve.
    targets: [n, ...] of the images; if given, what is measured is how much worse the task's score
      becomes in place of the divergence.
    further: other networks with the same weights, each with the same parts of it: as many parts more
      are measured at the same time, with the same curves. Each network holds its own maps.
    by_loss: whether curves have the task's loss for the targets.

  Returns:
    Curves whose first point is (0, 0), or by loss (0, that of the whole network), the same on all
    processes.
  """
  rank, nb_ranks = distributed.shard()
  most = nb_scanned(model, parts, nested.size(images))
  inputs, wanted = (
    None if one is None else nested.rows(nested.rows(one, slice(most)), slice(rank, None, nb_ranks))
    for one in (images, targets)
  )
  networks = [(model, parts), *further]
  workers = Workers([_Scanned(*network, inputs, task, wanted, by_loss) for network in networks])
  names = [part.name for part in _in_order(parts)]
  curves: dict[str, Curve] = {}
  for number, (name, curve) in enumerate(
    zip(names, workers.map(range(len(names))), strict=True), 1
  ):
    curves[name] = curve
    if progress is not None:
      progress(number, len(names), name, curve)
  return curves


def _in_order(parts: Sequence[Part]) -> list[Part]:
  return sorted(parts, key=lambda part: part.start)


class _Scanned:
  """A network of which some parts are measured, in its order; others may measure the rest."""

  def __init__(
    self,
    model: keras.Model,
    parts: Sequence[Part],
    inputs: Any,
    task: Task,
    targets: Any,
    by_loss: bool,
  ) -> None:
    """Runs the whole network; see `scan` for the arguments, of which each process has its share."""
    self._flat, self._parts, self._task = flatten_model(model), _in_order(parts), task
    self._frontier, self._size = Frontier(self._flat, inputs), float(nested.size(inputs))
    self._targets, self._passed = targets, 0
    self._whole = self._outputs(self._look(1))
    best = None if targets is None else self._evaluated(self._whole)
    self._best = None if best is None or by_loss else best.score.goodness
    self._loss = best.loss if by_loss else None

  def __call__(self, number: int) -> Curve:
    """The curve of a part, by its number in the order of the network."""
    for part in self._parts[self._passed : number + 1]:  # Maps are rounded at each start.
      self._frontier.advance(part.start)
    self._passed = number + 1
    part, curve = self._parts[number], [(0.0, self._loss or 0.0)]
    look = self._look(len(part.points))
    for share, prune in part.points:
      prune()
      curve.append((float(share), self._lost(look)))
    part.restore()
    return curve

  def _look(self, times: int) -> Callable[[], dict[int, Maps]]:
    """What gives the outputs, by number, at the cut as it is: compiled where that pays."""
    frontier, wanted = self._frontier, set(self._flat.outputs)
    work = times * self._size * macs_of(self._flat, self._flat.calls[frontier.position :])
    if work < _COMPILED_FROM:
      return functools.partial(frontier.peek, wanted)
    return frontier.lookout(wanted)

  def _lost(self, look: Callable[[], dict[int, Maps]]) -> float:
    now = self._outputs(look)
    tally.scored(int(self._size) * distributed.size())
    if self._loss is not None:
      return self._evaluated(now).loss
    if self._best is not None:
      return self._best - self._evaluated(now).score.goodness
    divergences = self._task.divergence(self._whole, now)
    total, count = distributed.sum(divergences.sum(dtype=np.float64), self._size)
    return max(float(total / count), 0.0)

  def _outputs(self, look: Callable[[], dict[int, Maps]]) -> Any:
    whole = {number: maps.whole().astype(np.float32) for number, maps in look().items()}
    return outputs_of(self._flat, whole)

  def _evaluated(self, now: Any) -> Evaluation:
    return evaluate_function(lambda outputs: outputs, [(now, self._targets)], self._task)


def describe(curve: Curve) -> str:
  """Every second point of a curve after its first, for a line to the user."""
  points = ', '.join(f'{100 * gone:.0f} %: {value:.4f}' for gone, value in curve[1::2])
  return points or 'nothing to measure'


def losses_at(curve: Curve, shares: np.ndarray) -> np.ndarray:
  """The divergence at some shares, which never falls: the curve's points, joined smoothly.

  After the last point it rises as steeply as the curve ends.

  Args:
    curve: what `scan` gives; one of a single point is zero everywhere.
    shares: float [n], each in [0, 1].

  Returns:
    float64 [n].
  """
  xs, ys = np.array(curve).T
  ys = np.maximum.accumulate(ys)
  if len(xs) < 2:
    return np.zeros(len(shares))
  inside = PchipInterpolator(xs, ys)(np.minimum(shares, xs[-1]))
  steepness = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
  return inside + steepness * np.maximum(shares - xs[-1], 0.0)
