"""Greedy choice of one unit's channels, with the layers that read them trained between the steps."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.blocks.greedy_scores import Gradients, judged_where_off
from secateurs.learners.channels.cuts.cutting import dropped_inputs
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.training import distributed, tally
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.loop import DivergenceError, Objective, way_on
from secateurs.utils.training.engine.masks import MaskSet
from secateurs.utils.training.layerwise.gradient_choice import next_mask
from secateurs.utils.training.layerwise.linear import by_last_rows, is_separable, kernel_of

_STEPS = 16
SELECTIONS = ('gradient', 'magnitude', 'random')


@dataclasses.dataclass(frozen=True)
class Greedy:
  """How channels are chosen and layers trained.

  Attributes:
    select: what a channel's score is: one of SELECTIONS.
    greedy: `remove` or `add`, see `gradient_choice.next_mask`.
    per_step: channels that change in one step; None for a sixteenth of all that change, at least 2.
    nb_iters: training steps after each.
    nb_batches_score: batches that the gradient is taken over; where channels go, as many groups of
      them are judged in turn.
    batch_size: cached samples of a batch.
    lrn_rate: Adam's.
    seed: of the order of samples, and of the random selection.
    score: whether a channel that may go is judged where it is `off`, or where it is `on`.
    epsilon: with `add`, channels come until the loss changes by no more than this fraction of the
      first one; None for a given number of channels.
    floor: fraction of the channels that stay at least, with epsilon.
    ceiling: fraction of them that stay at most, with epsilon.
  """

  select: str = 'gradient'
  greedy: str = 'remove'
  per_step: int | None = 1
  nb_iters: int = 500
  nb_batches_score: int = 8
  batch_size: int = 64
  lrn_rate: float = 1e-3
  seed: int = 0
  score: str = 'off'
  epsilon: float | None = None
  floor: float = 0.1
  ceiling: float = 1.0

  def bounds(self, unit: Unit) -> tuple[int, int]:
    """Channels of a unit that stay at least and at most, with epsilon."""
    low = unit.rule.count(unit.size, max(math.ceil(self.floor * unit.size), 1))
    return low, max(unit.rule.count(unit.size, int(self.ceiling * unit.size)), low)

  def steps(self, size: int, target: int) -> int:
    """Greedy steps to get from `size` channels to `target` of them."""
    return -(-self._change(size, target) // self.pace(size, target)) if size > target else 0

  def pace(self, size: int, target: int) -> int:
    """Channels that change in one step on the way from `size` to `target` of them."""
    return self.per_step or max(-(-self._change(size, target) // _STEPS), 2)

  def _change(self, size: int, target: int) -> int:
    return size - target if self.greedy == 'remove' else target


class UnitPruning:
  """The layers that read a unit's channels, while these are chosen.

  Attributes:
    mask: bool [unit.size], the channels that are on.
    means: loss and its parts, averaged over the latest training steps.
  """

  def __init__(
    self,
    unit: Unit,
    layers: Mapping[str, keras.layers.Layer],
    objective: Objective,
    nb_samples: int,
    method: Greedy,
    *,
    dropped: Mapping[str, np.ndarray],
    phase: str,
    nb_pieces: int = 1,
    part: float = 1.0,
  ) -> None:
    """Starts with all channels on (`remove`) or off (`add`).

    Args:
      unit: the channels, and who reads them.
      layers: the network's layers by name.
      objective: L^(R) + L_p of int32 batches of sample numbers.
      nb_samples: how many samples there are.
      method: how.
      dropped: input channels that other units have dropped already, by layer name.
      phase: name for error messages.
      nb_pieces: how many pieces a batch is run in, so that its feature maps fit into memory.
      part: fraction of the network that a sample is run through, as which it is counted.
    """
    self._nb_pieces, self._part = nb_pieces, part
    self._unit, self._method, self._phase = unit, method, phase
    self._nb_samples, self._dropped, self._objective = nb_samples, dropped, objective
    self._layers = [layers[name] for name in unit.readers]
    self._kernels = [kernel_of(layer) for layer in self._layers]
    # By rows of the kernels, of which a separable convolution may have several for a channel.
    self._elements = [by_last_rows(layer, unit.elements[layer.name]) for layer in self._layers]
    before = [layer.depthwise_kernel for layer in self._layers if is_separable(layer)]
    self._masks = MaskSet(self._kernels)
    biases = [layer.bias for layer in self._layers if layer.use_bias]
    self._optimizer = keras.optimizers.Adam(method.lrn_rate, jit_compile=False)
    self._step = loop.TrainStep(
      objective,
      [*self._kernels, *biases, *before],
      self._optimizer,
      constraints=[self._masks],
      nb_pieces=nb_pieces,
      batch_size=self._counted(min(method.batch_size, nb_samples)),
    )
    self._rng = np.random.default_rng([method.seed, zlib.crc32(unit.name.encode())])
    self._random = self._rng.random(unit.size)
    # All processes deal alike, though they may hold different numbers of samples.
    self._deal = np.random.default_rng([method.seed, zlib.crc32(unit.name.encode()), 1])
    self._gradients = Gradients(objective, self._kernels, self._elements, unit.size, nb_pieces)
    self.mask = np.full(unit.size, method.greedy == 'remove')
    self.means: dict[str, float] = {}
    self._apply()

  def run(self, target: int) -> None:
    """Changes channels and trains alternately until `target` of them are on.

    Args:
      target: how many.

    Raises:
      DivergenceError: a loss or a score that is not finite.
    """
    method = self._method
    pace = method.pace(self._unit.size, target)
    while left := abs(int(self.mask.sum()) - target):
      self.mask = next_mask(self.scores(), self.mask, min(pace, left), method.greedy)
      self._apply()
      self._train()

  def grow(self, low: int, high: int) -> None:
    """Turns channels on, and trains, until that changes the loss little (Zhuang et al. 2018).

    They are enough when |L_{t-1} - L_t| / L_0 <= epsilon, with L_t the loss after step t over the same
    batches each time, and L_0 that of no channels.

    Args:
      low: channels that come in any case.
      high: most of them.

    Raises:
      DivergenceError: a loss or a score that is not finite.
    """
    batches = self._batches(self._method.nb_batches_score)
    first = before = self._loss(batches)
    while (count := int(self.mask.sum())) < high:
      pace = min(self._method.pace(self._unit.size, high), high - count)
      self.mask = next_mask(self.scores(), self.mask, pace, 'add')
      self._apply()
      self._train()
      loss = self._loss(batches)
      if count + pace >= low and abs(before - loss) <= self._method.epsilon * first:
        return
      before = loss

  def keep_all(self) -> None:
    """Turns all channels on; nothing is trained."""
    self.mask = np.ones(self._unit.size, bool)
    self._apply()

  def scores(self) -> np.ndarray:
    """The channels' scores, [unit.size]: greater is better.

    `gradient`: Frobenius norms of the gradient of L^(R) + L_p by the kernel's rows of a channel that
    is off, means over batches and processes. Channels that are on are switched off for this, group by
    group, each in another batch. With `score` on the gradient is taken with all of them on.

    Raises:
      DivergenceError: a gradient is not finite.
    """
    method, unit = self._method, self._unit
    if method.select == 'random':
      return self._random
    if method.select == 'magnitude':
      scores = np.zeros(unit.size)
      for kernel, element in zip(self._masks.backups, self._elements, strict=True):
        rows = np.abs(kernel.numpy()).sum(axis=tuple(range(len(kernel.shape) - 2)) + (-1,))
        np.add.at(scores, element[element >= 0], rows[element >= 0])
      return scores
    nb_batches = method.nb_batches_score
    batches = self._batches(nb_batches)
    tally.scored(self._counted(batches.size))
    if method.score == 'on' and method.greedy == 'remove':
      judged = np.tile(self.mask.astype(np.float32), (nb_batches, 1))
      scores = self._gradients.norms(batches, np.zeros_like(judged), judged)
    else:
      absent = judged_where_off(self.mask, nb_batches, self._deal, method.greedy)
      scores = self._gradients.norms(batches, absent, absent)
    if not np.isfinite(scores).all():
      raise DivergenceError(
        f'The gradient became infinite or NaN in phase {self._phase} with learning rate '
        f'{method.lrn_rate:.3g}: lower the learning rate ({way_on(self._phase)}); the last good '
        'checkpoint was kept.'
      )
    return scores

  def _loss(self, batches: np.ndarray) -> float:
    tally.scored(self._counted(batches.size))
    return self._gradients.loss(batches)

  def _counted(self, nb_samples: int) -> float:
    """So many whole images are samples that each process runs through a part of the network."""
    return nb_samples * self._part * distributed.size()

  def _train(self) -> None:
    def keep(done: int, means: dict[str, float]) -> None:
      del done
      self.means = means

    nb_iters = self._method.nb_iters
    if nb_iters:
      loop.run(
        self._step,
        tf.data.Dataset.from_tensor_slices(self._batches(nb_iters)),
        start=0,
        stop=nb_iters,
        phase=self._phase,
        events=[loop.Event(keep, at=[nb_iters])],
      )

  def _batches(self, nb_batches: int) -> np.ndarray:
    """Sample numbers, int32 [nb_batches, batch_size], every sample as often as any other."""
    size = nb_batches * min(self._method.batch_size, self._nb_samples)
    rounds = -(-size // self._nb_samples)
    order = [self._rng.permutation(self._nb_samples) for _ in range(rounds)]
    return np.concatenate(order)[:size].reshape(nb_batches, -1).astype(np.int32)

  def _apply(self) -> None:
    """Puts the mask into the kernels; channels that return have the weights they had."""
    dropped = dropped_inputs([self._unit], {self._unit.name: self.mask})
    for i, name in enumerate(self._unit.readers):
      gone = by_last_rows(self._layers[i], dropped[name] | self._dropped.get(name, False))
      mask, backup = self._masks.masks[i], self._masks.backups[i]
      new = np.broadcast_to(~gone[:, None], mask.shape).astype(np.float32)
      came = (new > 0) & (mask.numpy() == 0)
      mask.assign(new)
      self._kernels[i].assign(np.where(came, backup.numpy(), self._kernels[i].numpy()) * new)
