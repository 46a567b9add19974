"""ChannelPrunedLearner: drops input channels and reconstructs each layer's output.

He, Zhang & Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks" (arXiv:1707.06168).
Layer by layer, for sampled points of the input maps X_i (from the network as pruned so far) and of the
output Y (from the original network),

  min over beta, W of  || Y - sum_i beta_i X_i W_i ||^2 / 2N + lambda ||beta||_1,
  subject to ||beta||_0 <= c' (`cp_uniform_preserve_ratio` of c) and ||W_i||_F = 1           (eq. 2)

first for beta by LASSO with W fixed, then for W by least squares with beta fixed (`two-step`), or in
turns while lambda grows (`alternating`). A residual branch's last layer fits Y1 - Y1' + Y2, so that the
shortcut's error is made up for, and its first layer may read a choice of the shared channels
(`cp_trunk`).

Deviations. Samples are never held: LASSO and least squares are solved from sums over them, and LARS
gives the whole path of lambda at once. By default channels go one by one, each time the one whose loss
least squares over the others makes up for best (`cp_select backward`): on the same sums, and better
than LASSO wherever it was measured (docs/chn_pruned.md). Errors count as they are behind the
normalisation that follows, and its mean takes up the intercept. Layers that keep all of their inputs
are refit, too (`cp_refit_all`), because what reaches them has changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import measuring, register
from secateurs.learners.abstract_learner import Phase
from secateurs.learners.channel_pass import Method, prune, statistics
from secateurs.learners.channel_units import (
  TRUNKS,
  Unit,
  Units,
  find_units,
  keep_of,
  nb_kept,
  read_ratios,
)
from secateurs.learners.compression import CompressionLearner
from secateurs.learners.judging import Judge, judging_note, judging_samples, judging_split
from secateurs.learners.ratio_search import Allocation, Reward
from secateurs.learners.trials import best_candidates, search
from secateurs.utils.config import Config, option
from secateurs.utils.deploy import model_block
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan, count, masked, plan_slice
from secateurs.utils.training import distributed
from secateurs.utils.training.batch_norm import reestimate
from secateurs.utils.training.channel_choice import SELECTIONS
from secateurs.utils.training.masks import MaskSet
from secateurs.utils.training.schedules import WarmUpCosine
from secateurs.utils.training.weights import assign_weights, load_model, named_weights

_NB_BN_BATCHES = 20
_NB_PARITY_IMAGES = 64
_NB_FINALISTS = 3
_MAX_SLIM_DIFFERENCE = 1e-4


@dataclasses.dataclass(frozen=True)
class CpConfig(Config):
  """Hyper-parameters of `chn-pruned`."""

  prefix = 'cp_'

  save_path: str = option(
    './models_cp/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_cp_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  prune_option: str = option(
    'uniform',
    'Where preserve ratios come from: uniform (one for all layers), list (a file), or auto '
    '(searched, given the share of MACs).',
    choices=('uniform', 'list', 'auto'),
  )
  uniform_preserve_ratio: float = option(
    0.5, 'Share of its input channels that each layer keeps, for uniform.', low=0.0, high=1.0
  )
  prune_list_file: str = option('ratio.list', 'File of preserve ratios, one a layer, for list.')
  preserve_ratio: float = option(
    0.5, 'Share of all MACs that may stay, for auto.', low=0.0, high=1.0
  )
  nb_rlouts: int = option(200, 'Candidates that auto tries.', low=2)
  nb_rlouts_min: int = option(50, 'Of these, how many are drawn at random first.', low=1)
  nb_smpls_reward: int = option(2000, 'Images that candidates are judged on.', low=1)
  select: str = option(
    'backward', 'How channels are chosen: ' + ', '.join(SELECTIONS) + '.', choices=SELECTIONS
  )
  lasso: bool = option(True, 'If unset, channels are chosen by magnitude, whatever cp_select says.')
  scheme: str = option(
    'two-step',
    'For lasso: choose, then refit; or both in turns with a growing penalty.',
    choices=('two-step', 'alternating'),
  )
  refit: bool = option(True, 'Refit the kept weights by least squares.')
  refit_all: bool = option(
    True, 'Refit layers that keep all of their inputs, too, where these have changed.'
  )
  trunk: str = option(
    'keep',
    'Channels joined by residual additions: keep all, couple (drop for all layers of the trunk), or '
    'gather (each convolution chooses its own).',
    choices=TRUNKS,
  )
  skip: str | None = option(
    None, 'Names or patterns of layers, separated by commas, whose channels stay whole.'
  )
  quadruple: bool = option(False, 'Round numbers of kept channels up to multiples of four.')
  nb_points_per_layer: int = option(10, 'Points sampled per image and layer.', low=1)
  nb_batches: int = option(30, 'Batches of training images to sample from.', low=1)
  batch_size: int = option(64, 'Images of one of these batches.', low=1)
  ridge: float = option(
    1e-4, 'Penalty of least squares, relative to the mean energy of an input.', low=0.0, high=1.0
  )
  finetune: bool = option(False, 'Fine-tune behind every group of layers.')
  list_group: int = option(1000, 'Layers of a group.', low=1)
  nb_iters_ft_ratio: float = option(
    0.2, 'Steps behind one group, as a share of those of the final fine-tuning.', low=0.0, high=1.0
  )
  lrn_rate_ft: float = option(1e-4, 'Learning rate behind a group, for SGD.', low=0.0)
  compare: bool = option(
    True, 'Report what magnitude and random selection give at the same numbers of channels.'
  )

  @property
  def selection(self) -> str:
    """How channels are chosen."""
    return self.select if self.lasso else 'magnitude'

  @property
  def skipped(self) -> list[str]:
    """Patterns of layers to leave whole."""
    return [name.strip() for name in (self.skip or '').split(',') if name.strip()]


@register
class ChannelPrunedLearner(CompressionLearner):
  """Drops input channels of convolutions, refits what is left, slices, and fine-tunes."""

  name = 'chn-pruned'
  aliases = ('channel',)
  Config = CpConfig

  def compression_phases(self) -> list[Phase]:
    """Pruning on masks, slicing, training of the slim network."""
    search = [Phase('search', self._search)] if self.config.prune_option == 'auto' else []
    return [
      *search,
      Phase('prune', self._prune),
      Phase('slim', self._slim),
      Phase('finetune', self._finetune),
    ]

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

  def extra(self) -> dict[str, Any]:
    """Kept channels, reconstruction errors, and the comparison of selections."""
    keys = ('kept', 'layers', 'comparison', 'left_whole', 'search')
    return {key: self.state['algorithm'][key] for key in keys if key in self.state['algorithm']}

  def requested(self) -> dict[str, Any]:
    """The preserve ratios."""
    config = self.config
    if config.prune_option == 'list':
      return {'preserve_ratios': config.prune_list_file}
    if config.prune_option == 'auto':
      return {'macs_ratio': config.preserve_ratio}
    return {'preserve_ratio': config.uniform_preserve_ratio}

  def notes(self) -> list[str]:
    """What stayed whole."""
    left = self.state['algorithm'].get('left_whole', [])
    notes = [f'Channels that stayed whole: {"; ".join(left)}.'] if left else []
    if 'search' in self.state['algorithm']:
      notes += judging_note(self.helper, 'Candidates of the search')
    return notes

  # Pruning.

  def _units(self, graph: ChannelGraph) -> Units:
    found = find_units(graph, self.config.trunk, self.config.skipped)
    if not found.units:
      raise UserError(
        f'No convolution of {self.helper.net} has channels that can go '
        f'({"; ".join(found.left) or "there are none"}): loosen --cp_skip or --cp_trunk.'
      )
    return found

  def _counts(self, units: list[Unit]) -> dict[str, int]:
    """Channels to keep by unit name."""
    config = self.config
    if config.prune_option == 'auto':
      return self.state['algorithm']['counts']
    if config.prune_option == 'list':
      ratios = read_ratios(config.prune_list_file, units)
    else:
      ratios = [config.uniform_preserve_ratio] * len(units)
    return {
      unit.name: nb_kept(unit.size, ratio, config.quadruple)
      for unit, ratio in zip(units, ratios, strict=True)
    }

  def _method(self, **changes: Any) -> Method:
    config = self.config
    method = Method(
      selection=config.selection,
      alternating=config.scheme == 'alternating',
      refit=config.refit,
      refit_all=config.refit and config.refit_all,
      ridge=config.ridge,
      seed=self.run_config.seed,
      nb_points=config.nb_points_per_layer,
    )
    return dataclasses.replace(method, **changes)

  def _images(self, purpose: str, nb_batches: int) -> list[np.ndarray]:
    """This process's share of some batches of training images, float32 [n, h, w, c]."""
    index, nb_ranks = distributed.shard()
    batches = self.helper.train_batches(self.config.batch_size, self.stream_seed(purpose))
    mine = batches.take(nb_batches).shard(nb_ranks, index)
    return [images.numpy() for images, _ in mine]

  def _original(self) -> keras.Model:
    model = self.helper.build_model(self.run_config.seed)
    values = {n: w.numpy() for n, w in named_weights(load_model(self.original_keras)).items()}
    assign_weights(named_weights(model), values, str(self.original_keras))
    return model

  def _search(self) -> None:
    config, state = self.config, self.state['algorithm']
    path = self.trials_path()
    original, working = self._original(), self._original()
    graph = ChannelGraph(original)
    units, method = self._units(graph).units, self._method()
    batches = self._images('prune', config.nb_batches)
    images, labels = judging_samples(self.helper, config.nb_smpls_reward, self.say)
    judge = Judge(working, images, labels)
    readers = statistics(original, working, units, batches, method)
    reward = Reward(original, working, units, readers, method, judge)
    allocation = Allocation(graph, units, reward.losses, 4 if config.quadruple else 1)
    budget = config.preserve_ratio * graph.counts().macs
    trials = search(
      [unit.name for unit in units],
      lambda factors: allocation.candidate(budget, factors),
      lambda candidate: reward(candidate.counts),
      path,
      nb_trials=config.nb_rlouts,
      nb_random=config.nb_rlouts_min,
      seed=self.run_config.seed,
      say=self.say,
    )
    finals = []
    for trial in best_candidates(trials, _NB_FINALISTS):
      working.set_weights(original.get_weights())
      prune(original, working, units, trial.counts, batches, method)
      finals.append((judge.accuracy(), trial))
      self.say(
        f'search  finalist {trial.number + 1}: accuracy {100 * finals[-1][0]:.2f} % behind the whole '
        'reconstruction'
      )
    accuracy, best = max(finals, key=lambda one: one[0])
    state['counts'] = best.counts
    state['search'] = {
      'trials': len(trials),
      'best_trial': best.number,
      'reward': best.reward,
      'reward_equal_ratios': trials[1].reward,
      'accuracy_reconstructed': accuracy,
      'macs': best.cost,
      'counts': best.counts,
      'samples': len(labels),
      'split': judging_split(self.helper),
    }

  def _prune(self) -> None:
    config, state = self.config, self.state['algorithm']
    original = self._original()
    graph = ChannelGraph(original)
    found = self._units(graph)
    counts = self._counts(found.units)
    state.setdefault('kept', {})
    state.setdefault('layers', [])
    state['left_whole'] = found.left
    size = config.list_group if config.finetune else len(found.units)
    groups = [found.units[i : i + size] for i in range(0, len(found.units), size)]
    batches = self._images('prune', config.nb_batches)
    for number, group in enumerate(groups, 1):
      if any(unit.name not in state['kept'] for unit in group):
        self._prune_group(original, found.units, group, counts, batches)
        self.save('prune', 0)
      if config.finetune:
        self._finetune_group(number, found.units)

  def _prune_group(
    self,
    original: keras.Model,
    units: list[Unit],
    group: list[Unit],
    counts: dict[str, int],
    batches: list[np.ndarray],
  ) -> None:
    state = self.state['algorithm']
    model = self.in_float32(self.model)
    if model is self.model:
      model = self.helper.build_model(self.run_config.seed)
      model.set_weights(self.model.get_weights())
    kept, records = prune(
      original,
      model,
      group,
      counts,
      batches,
      self._method(),
      dropped=dropped_inputs(units, _masks(units, state['kept'])),
      progress=self._say_layer,
    )
    self.model.set_weights(model.get_weights())
    state['kept'] |= {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()}
    state['layers'] += records

  def _say_layer(self, number: int, total: int, record: dict[str, Any]) -> None:
    after = record.get('error_after')
    refit = '' if after is None else f' -> {100 * after:.1f} %'
    self.say(
      f'prune  layer {number}/{total}  {record["name"]}: {record["kept"]} of {record["of"]} input '
      f'channels, error {100 * record["error_before"]:.1f} %{refit}'
    )

  def _finetune_group(self, number: int, units: list[Unit]) -> None:
    config, name = self.config, f'finetune_group{number}'
    nb_steps = max(round(config.nb_iters_ft_ratio * self.fine_tune_steps()), 0)
    done = self.state['algorithm'].setdefault('groups_tuned', [])
    if not nb_steps or name in done:
      return
    dropped = dropped_inputs(units, _masks(units, self.state['algorithm']['kept']))
    kernels = {layer.name: layer.kernel for layer in self.model.layers if layer.name in dropped}
    masks = MaskSet(list(kernels.values()))
    for layer, mask in zip(kernels, masks.masks, strict=True):
      mask.assign(tf.ones_like(mask) * (~dropped[layer]).astype(np.float32)[:, None])
    self.fit(
      name,
      self.classification(),
      self.sgd(WarmUpCosine(self.scaled_rate(config.lrn_rate_ft), nb_steps)),
      nb_steps=nb_steps,
      masks=masks,
    )
    done.append(name)
    self.save('prune', 0)

  # Slicing and measuring.

  def _slim(self) -> None:
    state = self.state['algorithm']
    model = self.in_float32(self.model)
    graph = ChannelGraph(model)
    units = self._units(graph).units
    slim, difference = self._sliced(graph, units, state['kept'])
    state['slim_vs_masked'] = difference
    state['pruned'] = self._measured(slim)
    self._say_accuracy('Pruned, before any training', state['pruned'])
    if self.config.compare:
      state['comparison'] = self._comparison(units)
    state['slim'] = slim.to_json()
    self.model = self.in_training_precision(slim)

  def _sliced(
    self, graph: ChannelGraph, units: list[Unit], kept: Mapping[str, list[int]]
  ) -> tuple[keras.Model, float]:
    """The slim model, and how far its outputs are from the masked one's, as a share of their range."""
    plan = plan_slice(graph, keep_of(units, kept))
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
      **self._accuracies(model, evaluation.accuracy),
      **measuring.sparsities(model),
    )

  def _accuracies(self, model: keras.Model, accuracy: float | None = None) -> dict[str, float]:
    """Accuracy as it is, and with BN's statistics taken anew; the model stays as it is."""
    if accuracy is None:
      accuracy = measuring.evaluate_model(model, self.helper, self.run_config).accuracy
    weights = model.get_weights()
    reestimate(model, self._images('batch_norm', _NB_BN_BATCHES))
    renewed = measuring.evaluate_model(model, self.helper, self.run_config)
    model.set_weights(weights)
    return {'accuracy': accuracy, 'accuracy_bn_reestimated': renewed.accuracy}

  def _comparison(self, units: list[Unit]) -> dict[str, dict[str, float]]:
    """Magnitude and random selection with the same numbers of channels, refit and as they are."""
    original, results = self._original(), {}
    counts = {name: len(kept) for name, kept in self.state['algorithm']['kept'].items()}
    batches = self._images('prune', self.config.nb_batches)
    for selection in ('magnitude', 'random'):
      model = self._original()
      method = self._method(selection=selection, refit=True)
      masks, _ = prune(original, model, units, counts, batches, method)
      kept = {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}
      for title, network in ((f'{selection}, refit', model), (selection, original)):
        slim, _ = self._sliced(ChannelGraph(network), units, kept)
        results[title] = self._accuracies(slim)
        self._say_accuracy(f'For comparison, {title}', results[title])
    return results

  def _say_accuracy(self, title: str, block: Mapping[str, Any]) -> None:
    self.say(
      f'{title}: accuracy {100 * block["accuracy"]:.2f} %, with BN re-estimated '
      f'{100 * block["accuracy_bn_reestimated"]:.2f} %'
    )

  def _finetune(self) -> None:
    nb_steps = self.fine_tune_steps()
    if nb_steps:
      self.fit(
        'finetune',
        self.classification(),
        self.sgd(self.fine_tune_schedule(nb_steps)),
        nb_steps=nb_steps,
      )


def dropped_inputs(units: list[Unit], kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Which input channels of each layer are dropped, from masks over the units' channels."""
  dropped: dict[str, np.ndarray] = {}
  for unit in units:
    if unit.name not in kept:
      continue
    for name, elements in unit.elements.items():
      gone = (elements >= 0) & ~kept[unit.name][elements]
      dropped[name] = dropped[name] | gone if name in dropped else gone
  return dropped


def _masks(units: list[Unit], kept: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
  return {
    unit.name: np.isin(np.arange(unit.size), kept[unit.name]) for unit in units if unit.name in kept
  }
