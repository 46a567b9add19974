"""Candidates of a search that are judged at the same time, where none depends on another."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.models.random_layers import draws
from secateurs.utils.training.models.weights import leaf_layers

T = TypeVar('T')
R = TypeVar('R')


class Workers(Generic[T, R]):
  """Some judges of candidates, each with a separate network.

  Judges run in threads: sums over feature maps are held once, and TensorFlow and LAPACK release
  Python's lock. What a judge gives must follow from the candidate alone, so that it does not matter
  which one is asked. Each is asked in the candidates' order.
  """

  def __init__(self, judges: Sequence[Callable[[T], R]]) -> None:
    """`judges`: at least one; they share nothing that judging changes."""
    self._judges = list(judges)

  def __call__(self, candidate: T) -> R:
    """What the first judge gives for one candidate."""
    return self._judges[0](candidate)

  def map(self, candidates: Sequence[T]) -> Iterator[R]:
    """What judges give for candidates, in the candidates' order, as soon as it is known."""
    if len(self._judges) == 1 or len(candidates) < 2:
      yield from map(self._judges[0], candidates)
      return
    free: queue.SimpleQueue[Callable[[T], R]] = queue.SimpleQueue()
    for judge in self._judges:
      free.put(judge)

    def judged(candidate: T) -> R:
      judge = free.get()
      try:
        return judge(candidate)
      finally:
        free.put(judge)

    pool = ThreadPoolExecutor(len(self._judges))
    try:
      yield from pool.map(judged, candidates)
    finally:
      pool.shutdown(cancel_futures=True)


def require_alike(jobs: int, flag: str, model: keras.Model | None) -> None:
  """Checks that candidates give the same whichever network they are trained and judged on.

  Args:
    jobs: candidates at the same time.
    flag: that said so.
    model: the network, where candidates are trained; None where they are only judged.

  Raises:
    UserError: there are several processes, too, or layers draw numbers while they train, which
      continue from one candidate of a network to the next.
  """
  require_one_process(jobs, flag)
  layers = [] if model is None else leaf_layers(model)
  drawing = [layer.name for layer in layers if draws(layer)]
  if jobs > 1 and drawing:
    raise UserError(
      f'--{flag} {jobs} trains candidates on networks of their own, but {drawing[0]} draws random '
      f'numbers, so that results would depend on which network has a candidate: leave out --{flag}.'
    )


def require_one_process(jobs: int, flag: str) -> None:
  """Checks that candidates are not to be judged at the same time by several processes, too.

  Args:
    jobs: candidates at the same time.
    flag: that said so.

  Raises:
    UserError: they are.
  """
  if jobs > 1 and distributed.size() > 1:
    raise UserError(
      f'--{flag} {jobs} judges candidates at the same time in one process, but there are '
      f'{distributed.size()}, which judge each candidate together: leave out --{flag}.'
    )
