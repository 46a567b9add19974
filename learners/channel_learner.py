"""What all learners share that drop channels: units, masks, slicing, training of the slim network."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners import divergence, measuring
from secateurs.learners.channel_pass import Method, statistics
from secateurs.learners.channel_sensitivity import unit_parts
from secateurs.learners.channel_units import MAX_ROWS, TRUNKS, Unit, Units, find_units, keep_of
from secateurs.learners.compression import CompressionLearner
from secateurs.learners.judging import judging_samples
from secateurs.learners.layer_refits import LayerRefits
from secateurs.utils.config import Config, option
from secateurs.utils.deploy import model_block
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan, count, masked, plan_slice
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.graph.slicing.planning import Keep
from secateurs.utils.training import distributed
from secateurs.utils.training.batch_norm import reestimate
from secateurs.utils.training.masks import Masks
from secateurs.utils.training.weights import assign_weights, load_model, named_weights

_NB_BN_BATCHES, _BN_BATCH = 20, 64
_NB_PARITY_IMAGES = 64
_MAX_SLIM_DIFFERENCE = 1e-4
_MAX_MAP_BYTES, _FLOAT_BYTES = 1 << 30, 4


@dataclasses.dataclass(frozen=True)
class ChannelConfig(Config):
  """Which channels may go."""

  trunk: str = option(
    'keep',
    'Channels joined by residual additions: keep all, couple (drop for all layers of the trunk), or '
    'gather (each convolution chooses its own).',
    choices=TRUNKS,
  )
  skip: str | None = option(
    None, 'Names or patterns of layers, separated by commas, whose channels stay whole.'
  )

  @property
  def skipped(self) -> list[str]:
    """Patterns of layers to leave whole."""
    return [name.strip() for name in (self.skip or '').split(',') if name.strip()]


class ChannelLearner(CompressionLearner):
  """A learner that drops channels on masks, slices them away, and trains the slim network.

  A subclass gives `compression_phases`, of which the last two are usually `slim` and `finetune`, and
  leaves in `self.state['algorithm']` before `slim`: `kept` (lists of channels by unit name) and
  `left_whole` (sentences).
  """

  config: ChannelConfig
  max_rows: int | None = MAX_ROWS  # Of kernels that can be pruned by their inputs.

  def build(self) -> keras.Model:
    """The slim network, once there is one."""
    slim = self.state.get('algorithm', {}).get('slim')
    return super().build() if slim is None else keras.models.model_from_json(slim)

  def pruned_block(self) -> dict[str, Any] | None:
    """The slim model before its fine-tuning."""
    return self.state['algorithm']['pruned']

  def parity(self) -> dict[str, float]:
    """Slim against masked."""
    return {'slim_vs_masked': self.state['algorithm']['slim_vs_masked']}

  def reached(self) -> dict[str, float]:
    """Which part of the channels that could go stayed."""
    return {'channels_ratio': self.state['algorithm']['channels_ratio']}

  def notes(self) -> list[str]:
    """What stayed whole."""
    left = self.state['algorithm'].get('left_whole', [])
    return [f'Channels that stayed whole: {"; ".join(left)}.'] if left else []

  def units(self, graph: ChannelGraph) -> Units:
    """What can be pruned.

    Raises:
      UserError: nothing.
    """
    config = self.config
    found = find_units(
      graph, config.trunk, config.skipped, prefix=config.prefix, max_rows=self.max_rows
    )
    if not found.units:
      raise UserError(
        f'No convolution of {self.helper.net} has channels that can go '
        f'({"; ".join(found.left) or "there are none"}): loosen --{config.prefix}skip or '
        f'--{config.prefix}trunk.'
      )
    return found

  def images(self, purpose: str, nb_batches: int, batch_size: int) -> list[np.ndarray]:
    """This process's share of some batches of training images, float32 [n, h, w, c]."""
    index, nb_ranks = distributed.shard()
    batches = self.helper.train_batches(
      batch_size, self.stream_seed(purpose), augment=self.sample_augmentation
    )
    mine = batches.take(nb_batches).shard(nb_ranks, index)
    return [images.numpy() for images, _ in mine]

  def working_model(self) -> keras.Model:
    """A float32 model with the weights of the run's, of its own."""
    model = self.in_float32(self.model)
    if model is self.model:
      model = self.helper.build_model(self.run_config.seed)
      model.set_weights(self.model.get_weights())
    return model

  def scan(
    self,
    original: keras.Model,
    working: keras.Model,
    units: list[Unit],
    batches: list[np.ndarray],
    method: Method,
  ) -> LayerRefits:
    """Measures what pruning each unit alone costs; leaves that in the state as `divergence`.

    What stands there already, from before a search was stopped, is not measured again.

    Args:
      original: the network before compression.
      working: another with its weights, which it has again at the end.
      units: what is measured.
      batches: images that the layers are refit over.
      method: how channels are chosen and weights refit.

    Returns:
      The layers' refits at any numbers of channels.
    """
    state = self.state['algorithm']
    readers = statistics(original, working, units, batches, method)
    refits = LayerRefits(original, units, readers, method)
    if 'divergence' not in state:
      images, _ = judging_samples(self.helper, divergence.NB_IMAGES)
      parts = unit_parts(working, units, refits)
      state['divergence'] = divergence.scan(working, parts, images, self._say_curve)
    return refits

  def _say_curve(self, number: int, total: int, name: str, curve: divergence.Curve) -> None:
    shown = divergence.describe(curve)
    self.say(f'scan  {number}/{total}  {name}: divergence with so many channels gone  {shown}')

  def nb_batches_within(self, wanted: int, batch_size: int) -> int:
    """As many batches as the memory for a feature map of all of them allows, at most `wanted`."""
    room = _MAX_MAP_BYTES // (self._largest_map * _FLOAT_BYTES * batch_size)
    return min(max(room, 1), wanted)

  @functools.cached_property
  def _largest_map(self) -> int:
    """Numbers in the largest feature map of an image, in the network before compression."""
    shapes = flatten_model(self.helper.build_model(self.run_config.seed)).shapes
    return max(math.prod(shape[1:]) for shape in shapes)

  def original(self) -> keras.Model:
    """The network before compression, float32."""
    model = self.helper.build_model(self.run_config.seed)
    assign_weights(named_weights(model), self._original_weights, str(self.original_keras))
    return model

  @functools.cached_property
  def _original_weights(self) -> dict[str, np.ndarray]:
    return {n: w.numpy() for n, w in named_weights(load_model(self.original_keras)).items()}

  def kernel_masks(self, dropped: Mapping[str, np.ndarray]) -> Masks:
    """Masks that keep the kernel rows of dropped input channels of the model at zero.

    Args:
      dropped: bool arrays over input channels by layer name, as `dropped_inputs` gives.
    """
    kernels = {layer.name: layer.kernel for layer in self.model.layers if layer.name in dropped}
    return Masks(
      list(kernels.values()),
      [
        np.broadcast_to(~dropped[n][:, None], k.shape).astype(np.float32)
        for n, k in kernels.items()
      ],
    )

  # Slicing and measuring.

  def slim(self) -> None:
    """The phase that slices the dropped channels away and measures what is left."""
    state = self.state['algorithm']
    model = self.in_float32(self.model)
    graph = ChannelGraph(model)
    keep = self.keep(graph)
    slim, difference = self.sliced(graph, keep)
    state['slim_vs_masked'] = difference
    sizes = [
      graph.groups[key].size if isinstance(key, int) else len(graph.inputs(key[0]).roots)
      for key in keep
    ]
    state['channels_ratio'] = sum(map(len, keep.values())) / sum(sizes)
    state['pruned'] = self._measured(slim)
    self.say_accuracy('Pruned, before any training', state['pruned'])
    self.before_training(graph)
    state['slim'] = slim.to_json()
    self.model = self.in_training_precision(slim)

  def before_training(self, graph: ChannelGraph) -> None:
    """What else a subclass measures at this moment, given the masked network's graph."""

  def keep(self, graph: ChannelGraph) -> Keep:
    """What slicing keeps, given the masked network's graph."""
    return keep_of(self.units(graph).units, self.state['algorithm']['kept'])

  def sliced(self, graph: ChannelGraph, keep: Keep) -> tuple[keras.Model, float]:
    """The slim model, and how far its outputs are from the masked one's, as a share of their range."""
    plan = plan_slice(graph, keep)
    slim = apply_plan(plan)
    images = self.helper.calibration_images(_NB_PARITY_IMAGES)
    with masked(plan):
      expected = graph.model(images, training=False).numpy()
    found = slim(images, training=False).numpy()
    difference = float(np.abs(found - expected).max() / (np.ptp(expected) or 1.0))
    if difference > _MAX_SLIM_DIFFERENCE:
      raise RuntimeError(
        f"The slim network differs from the masked one by {difference:.1e} of the outputs' range, "
        f'where at most {_MAX_SLIM_DIFFERENCE:.0e} was expected.'
      )
    return slim, difference

  def _measured(self, model: keras.Model) -> dict[str, Any]:
    """Block of the report of a slim model that has not been trained."""
    evaluation = measuring.evaluate_model(model, self.helper, self.run_config)
    return model_block(
      count=count(model),
      accuracy_top5=evaluation.accuracy_top5,
      loss=evaluation.loss,
      metrics=evaluation.metrics,
      **self.accuracies(model, evaluation.accuracy),
      **measuring.sparsities(model),
    )

  def accuracies(self, model: keras.Model, accuracy: float | None = None) -> dict[str, float]:
    """Accuracy as it is, and with BN's statistics taken anew; the model stays as it is."""
    if accuracy is None:
      accuracy = measuring.evaluate_model(model, self.helper, self.run_config).accuracy
    weights = model.get_weights()
    reestimate(model, self.images('batch_norm', _NB_BN_BATCHES, _BN_BATCH))
    renewed = measuring.evaluate_model(model, self.helper, self.run_config)
    model.set_weights(weights)
    return {'accuracy': accuracy, 'accuracy_bn_reestimated': renewed.accuracy}

  def say_accuracy(self, title: str, block: Mapping[str, Any]) -> None:
    """Tells both accuracies."""
    self.say(
      f'{title}: accuracy {100 * block["accuracy"]:.2f} %, with BN re-estimated '
      f'{100 * block["accuracy_bn_reestimated"]:.2f} %'
    )

  def finetune(self) -> None:
    """The phase that trains the slim network."""
    nb_steps = self.fine_tune_steps()
    if nb_steps:
      self.fit(
        'finetune',
        self.classification(),
        self.fine_tune_optimizer(nb_steps),
        nb_steps=nb_steps,
      )
