"""Times a layer-wise step of dis-chn-pruned against a step that runs whole networks.

Usage: python scripts/bench_dis_chn_pruned.py [--rounds 5] [--steps 8] [--blocks 2,3]

For every convolution of some blocks of a ResNet-20, interleaved and on the same batches of images:

  cached   this project: layers from the cut before the convolution to the end of its block, on cached
           feature maps; the gradient with respect to the convolution's kernel
  lean     from the images: the original network up to the convolution, the pruned one up to the end of
           the block; the gradient with respect to the kernel
  whole    from the images: both networks to their ends, as in the paper; the gradient with respect to
           all weights of the pruned network

Prints, for each convolution and averaged over each block, the ratio of times: median, minimum and
maximum over the rounds. Weights and images are random: times do not depend on them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.blocks.discrimination import (
  Block,
  LayerObjective,
  find_blocks,
)
from secateurs.learners.channels.cuts.units import find_units
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.flat.cuts import calls_between, first_calls, run_calls
from secateurs.utils.graph.flat.walk import FlatModel, flatten_model
from secateurs.utils.training.engine.loop import TrainStep
from secateurs.utils.training.layerwise.frontier import Frontier
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.heads import make_head

NB_SAMPLES = 256


class FromImages:
  """L^(R) + L_p from images; `whole` runs both networks to their ends and also returns L."""

  def __init__(
    self,
    flats: tuple[FlatModel, FlatModel],
    block: Block,
    branch: keras.Model | None,
    output: int,
    data: tuple[np.ndarray, np.ndarray],
    whole: bool,
  ) -> None:
    self._branch, self._output, self._whole = branch, output, whole
    self._logits = flats[0].outputs[0]
    self._end = self._logits if block.tensor is None else block.tensor
    ends = [self._logits] if whole else []
    self._before = calls_between(flats[0], 0, [output, *ends])
    self._now = calls_between(flats[1], 0, [output, self._end, *ends])
    self._input = flats[0].inputs[0][0]
    self._images, self._labels = (tf.constant(one) for one in data)
    self.metric_names = ('loss_before', 'loss_now') if whole else ()

  def __call__(self, batch: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns the loss of a batch of sample indices."""
    labels = tf.gather(self._labels, batch)
    given = {self._input: tf.gather(self._images, batch)}
    before, now = run_calls(self._before, given), run_calls(self._now, given)
    loss = 0.5 * tf.reduce_mean(tf.square(now[self._output] - before[self._output]))
    logits = now[self._end]
    loss += Classification(10).loss(labels, self._branch(logits) if self._branch else logits)
    metrics = {}
    if self._whole:
      metrics['loss_before'] = Classification(10).loss(labels, before[self._logits])
      metrics['loss_now'] = Classification(10).loss(labels, now[self._logits])
    return loss, metrics


def steps_of(
  name: str, flats: tuple, block: Block, branch: keras.Model | None, data: tuple
) -> dict:
  """Returns a compiled step for each variant, for one convolution."""
  first, images, labels = first_calls(flats[1]), *data
  output = flats[1].calls[first[name]].outputs[0]
  before, now = Frontier(flats[0], images), Frontier(flats[1], images)
  for frontier in (before, now):
    frontier.advance(first[name])
  objectives = {
    'cached': LayerObjective(
      flats[1],
      now.position,
      flats[1].outputs[0] if block.tensor is None else block.tensor,
      branch,
      now.tensors,
      before.peek([output]),
      tf.constant(labels),
      Classification(10),
    ),
    'lean': FromImages(flats, block, branch, output, data, whole=False),
    'whole': FromImages(flats, block, branch, output, data, whole=True),
  }
  kernel = flats[1].layers()[name].kernel
  everything = flats[1].model.trainable_variables
  return {
    way: TrainStep(
      objective,
      everything if way == 'whole' else [kernel],
      keras.optimizers.Adam(1e-6, jit_compile=False),
    )
    for way, objective in objectives.items()
  }


def seconds(step: TrainStep, batches: Callable[[], Iterator], nb_steps: int) -> float:
  """Measures the seconds of one step."""
  iterator = batches()
  began = time.perf_counter()
  step.run(iterator, nb_steps)
  return (time.perf_counter() - began) / nb_steps


def main() -> None:
  """Times all variants and prints a line for each convolution."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--steps', type=int, default=8)
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--blocks', default='2,3')
  options = parser.parse_args()
  models = cifar_resnet(20), cifar_resnet(20)
  flats = flatten_model(models[0]), flatten_model(models[1])
  rng = np.random.default_rng(0)
  images = rng.normal(size=(NB_SAMPLES, 32, 32, 3)).astype(np.float32)
  data = images, rng.integers(0, 10, NB_SAMPLES).astype(np.int32)
  places = rng.integers(0, NB_SAMPLES, (options.steps, options.batch_size)).astype(np.int32)

  def batches() -> Iterator:
    return iter(tf.data.Dataset.from_tensor_slices(places))

  units = find_units(ChannelGraph(models[1]), 'gather').units
  print(f'{"":<30}{"cached":>10}{"lean / cached":>24}{"whole / cached":>24}')
  for block in find_blocks(flats[1], 3, units):
    if str(block.number) not in options.blocks.split(','):
      continue
    branch = None
    if block.tensor is not None:
      branch = make_head(flats[1].shapes[block.tensor], (10,), f'branch{block.number}', 0)
    totals = []
    for unit in block.units:
      steps = steps_of(unit.name, flats, block, branch, data)
      for step in steps.values():
        step.run(batches(), 1)
      times = np.array(
        [
          [seconds(step, batches, options.steps) for step in steps.values()]
          for _ in range(options.rounds)
        ]
      )
      totals.append(times)
      show(unit.name, times)
    show(f'block {block.number}, mean', np.mean(totals, axis=0))


def show(name: str, times: np.ndarray) -> None:
  """Prints a line from times [rounds, variants]."""
  line = f'{name:<30}{1000 * np.median(times[:, 0]):>7.1f} ms'
  for ratios in (times[:, 1] / times[:, 0], times[:, 2] / times[:, 0]):
    line += f'{np.median(ratios):>8.1f} ({ratios.min():>5.1f} to {ratios.max():>4.1f})'
  print(line, flush=True)


if __name__ == '__main__':
  main()
