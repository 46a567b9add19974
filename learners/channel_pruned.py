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
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.abstract_learner import Phase
from secateurs.learners.allocation import Allocation
from secateurs.learners.channel_learner import ChannelConfig, ChannelLearner
from secateurs.learners.channel_pass import Method, prune
from secateurs.learners.channel_sensitivity import losses_of
from secateurs.learners.channel_units import (
  Unit,
  dropped_inputs,
  keep_of,
  nb_kept,
  plan_of,
  read_ratios,
  unit_masks,
  zero_inputs,
)
from secateurs.learners.judging import Judge, judging_notes, judging_samples, judging_split
from secateurs.learners.latency_target import share_for
from secateurs.learners.ratio_search import Reward
from secateurs.learners.trials import Candidate, best_candidates, require_optuna, search
from secateurs.utils.config import option
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan
from secateurs.utils.training.channel_choice import SELECTIONS
from secateurs.utils.training.schedules import Cosine

_NB_BATCHES, _NB_POINTS = 30, 10
_NB_FINALISTS = 3


@dataclasses.dataclass(frozen=True)
class CpConfig(ChannelConfig):
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
    '(measured and searched, given the share of MACs).',
    choices=('uniform', 'list', 'auto'),
  )
  uniform_preserve_ratio: float = option(
    0.5, 'Share of its input channels that each layer keeps, for uniform.', low=0.0, high=1.0
  )
  prune_list_file: str = option('ratio.list', 'File of preserve ratios, one a layer, for list.')
  preserve_ratio: float = option(
    0.5, 'Share of all MACs that may stay, for auto.', low=0.0, high=1.0
  )
  target_latency: float | None = option(
    None,
    "Share of the original's measured .tflite latency to come down to; takes the place of the "
    'preserve ratio of uniform or auto.',
    low=0.01,
    high=1.0,
  )
  nb_rlouts: int = option(
    1,
    'Candidates that auto tries: 1 takes what the measured curves give, more are searched by Optuna.',
    low=1,
  )
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
  quadruple: bool = option(False, 'Round numbers of kept channels up to multiples of four.')
  nb_points_per_layer: int | None = option(
    None, 'Points sampled per image and layer; default: 10, more where batches are fewer.', low=1
  )
  nb_batches: int | None = option(
    None,
    'Batches of training images to sample from; default: 30, fewer where a feature map of all their '
    'images would take more than 1 GiB.',
    low=1,
  )
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

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.target_latency is not None and self.prune_option == 'list':
      raise UserError(
        '--cp_target_latency chooses how much stays, but --cp_prune_option list gives that: leave one '
        'of the two out.'
      )

  @property
  def selection(self) -> str:
    """How channels are chosen."""
    return self.select if self.lasso else 'magnitude'


@register
class ChannelPrunedLearner(ChannelLearner):
  """Drops input channels of convolutions, refits what is left, slices, and fine-tunes."""

  name = 'chn-pruned'
  aliases = ('channel',)
  Config = CpConfig

  def compression_phases(self) -> list[Phase]:
    """Pruning on masks, slicing, training of the slim network."""
    auto, target = self.config.prune_option == 'auto', self.config.target_latency is not None
    return [
      *([Phase('latency', self._meet_latency)] if target else []),
      *([Phase('search', self._search)] if auto else []),
      Phase('prune', self._prune),
      Phase('slim', self.slim),
      Phase('finetune', self.finetune),
    ]

  def prepare(self) -> None:
    """Asks for what a search will need, before all work."""
    if self.config.prune_option == 'auto' and 'counts' not in self.state['algorithm']:
      require_optuna(self.config.nb_rlouts)

  def extra(self) -> dict[str, Any]:
    """Kept channels, reconstruction errors, and the comparison of selections."""
    keys = ('kept', 'layers', 'comparison', 'left_whole', 'divergence', 'search', 'latency')
    return {key: self.state['algorithm'][key] for key in keys if key in self.state['algorithm']}

  def requested(self) -> dict[str, Any]:
    """The preserve ratios, or the latency that they follow from."""
    config = self.config
    if config.target_latency is not None:
      return {'latency_ratio': config.target_latency}
    if config.prune_option == 'list':
      return {'preserve_ratios': config.prune_list_file}
    if config.prune_option == 'auto':
      return {'macs_ratio': config.preserve_ratio}
    return {'channels_ratio': config.uniform_preserve_ratio}

  def notes(self) -> list[str]:
    """What stayed whole, and what the search was judged on."""
    notes = super().notes()
    if 'search' in self.state['algorithm']:
      notes += judging_notes(self.helper)
    return notes

  # Pruning.

  def _counts(self, units: list[Unit]) -> dict[str, int]:
    """Channels to keep by unit name."""
    config = self.config
    if config.prune_option == 'auto':
      return self.state['algorithm']['counts']
    if config.prune_option == 'list':
      ratios = read_ratios(config.prune_list_file, units, 'cp_prune_list_file')
    elif config.target_latency is not None:
      return self._uniform_counts(units, self.state['algorithm']['latency']['share'])
    else:
      return self._uniform_counts(units, config.uniform_preserve_ratio)
    return {
      unit.name: nb_kept(unit.size, ratio, config.quadruple)
      for unit, ratio in zip(units, ratios, strict=True)
    }

  def _uniform_counts(self, units: list[Unit], ratio: float) -> dict[str, int]:
    return {unit.name: nb_kept(unit.size, ratio, self.config.quadruple) for unit in units}

  # A target in latency.

  def _meet_latency(self) -> None:
    """Finds the preserve ratio, or for auto the share of MACs with equal ratios, that is as fast."""
    graph = ChannelGraph(self.original())
    units = self.units(graph).units
    auto, step = self.config.prune_option == 'auto', 4 if self.config.quadruple else 1
    allocation = Allocation(graph, units, step)
    total = graph.counts().macs

    def counts(share: float) -> dict[str, int]:
      return allocation.equal(share * total) if auto else self._uniform_counts(units, share)

    least = allocation.least() / total + 1e-6 if auto else 1e-6
    self.state['algorithm']['latency'] = self._share_of_time(graph, units, counts, least)

  def _share_of_time(
    self,
    graph: ChannelGraph,
    units: list[Unit],
    counts: Callable[[float], dict[str, int]],
    least: float,
  ) -> dict[str, float]:
    """The share at which networks of these numbers of channels have the latency asked for."""

    def build(share: float) -> keras.Model:
      found = counts(share)
      masks = [np.arange(unit.size) < found[unit.name] for unit in units]
      return apply_plan(plan_of(graph, units, masks))

    share, measured = share_for(
      self.config.target_latency,
      build,
      self.original_prefix.with_name('original.tflite'),
      least=least,
      nb_threads=min(self.run_config.threads),
      say=self.say,
    )
    return {'share': share, 'measured': measured}

  def _method(self, **changes: Any) -> Method:
    config = self.config
    method = Method(
      selection=config.selection,
      alternating=config.scheme == 'alternating',
      refit=config.refit,
      refit_all=config.refit and config.refit_all,
      ridge=config.ridge,
      seed=self.run_config.seed,
      nb_points=config.nb_points_per_layer or self._nb_points(),
    )
    return dataclasses.replace(method, **changes)

  def _nb_batches(self) -> int:
    """Batches to sample from: as many as the memory for a feature map of all of them allows."""
    config = self.config
    return config.nb_batches or self.nb_batches_within(_NB_BATCHES, config.batch_size)

  def _nb_points(self) -> int:
    """Points per image and layer that make up for batches that are left out."""
    return math.ceil(_NB_POINTS * max(_NB_BATCHES / self._nb_batches(), 1))

  def _search(self) -> None:
    config, state = self.config, self.state['algorithm']
    path = self.trials_path()
    original, working = self.original(), self.original()
    graph = ChannelGraph(original)
    units, method = self.units(graph).units, self._method()
    allocation = Allocation(graph, units, 4 if config.quadruple else 1)
    total = graph.counts().macs
    target = config.target_latency is not None
    budget = (state['latency']['share'] if target else config.preserve_ratio) * total
    allocation.check(budget, total, '--cp_preserve_ratio', '--cp_trunk')
    self.say_judging()
    batches = self.images('prune', self._nb_batches(), config.batch_size)
    refits = self.scan(original, working, units, batches, method)
    self.save_search()
    images, labels = judging_samples(self.helper, config.nb_smpls_reward)
    judge = Judge(working, images, labels, self.helper.criteria)
    reward = Reward(working, refits, judge)
    prices = allocation.prices(losses_of(state['divergence'], units))
    trials = search(
      [unit.name for unit in units],
      lambda factors: allocation.candidate(budget, prices, factors),
      lambda candidate: reward(candidate.counts),
      path,
      nb_trials=config.nb_rlouts,
      nb_random=config.nb_rlouts_min,
      seed=self.run_config.seed,
      say=self.say,
      save=self.save_search,
    )

    def reconstructed(counts: dict[str, int]) -> float:
      """Accuracy behind the pass over the whole network, where a trial refits layers one by one."""
      working.set_weights(original.get_weights())
      prune(original, working, units, counts, batches, method)
      return judge.accuracy()

    finals = []
    by_reward = best_candidates(trials, _NB_FINALISTS)
    by_curves = [] if trials[0] in by_reward else [trials[0]]
    for trial in [*by_curves, *by_reward]:
      finals.append((reconstructed(trial.counts), trial))
      self.say(
        f'search  finalist {trial.number + 1}: accuracy {100 * finals[-1][0]:.2f} % behind the whole '
        'reconstruction'
      )
    accuracy, best = max(finals, key=lambda one: one[0])
    final = Candidate(best.counts, best.cost)
    if target:  # Other ratios of the same MACs are not quite as fast.

      def candidate(share: float) -> Candidate:
        return allocation.candidate(share * total, prices, best.factors)

      least = allocation.least() / total + 1e-6
      found = self._share_of_time(graph, units, lambda share: candidate(share).counts, least)
      state['latency'], final = found, candidate(found['share'])
      accuracy = reconstructed(final.counts)
    state['counts'] = final.counts
    state['search'] = {
      'trials': len(trials),
      'best_trial': best.number,
      'reward': best.reward,
      'reward_by_curves': trials[0].reward,
      'reward_equal_ratios': trials[1].reward if len(trials) > 1 else None,
      'accuracy_reconstructed': accuracy,
      'macs': final.cost,
      'counts': final.counts,
      'samples': len(labels),
      'split': judging_split(self.helper),
    }

  def _prune(self) -> None:
    config, state = self.config, self.state['algorithm']
    original = self.original()
    graph = ChannelGraph(original)
    found = self.units(graph)
    counts = self._counts(found.units)
    state.setdefault('kept', {})
    state.setdefault('layers', [])
    state['left_whole'] = found.left
    size = config.list_group if config.finetune else len(found.units)
    groups = [found.units[i : i + size] for i in range(0, len(found.units), size)]
    batches = self.images('prune', self._nb_batches(), config.batch_size)
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
    model = self.working_model()
    kept, records = prune(
      original,
      model,
      group,
      counts,
      batches,
      self._method(),
      dropped=dropped_inputs(units, unit_masks(units, state['kept'])),
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
    dropped = dropped_inputs(units, unit_masks(units, self.state['algorithm']['kept']))
    self.fit(
      name,
      self.classification(),
      self.sgd(Cosine(self.scaled_rate(config.lrn_rate_ft), nb_steps)),
      nb_steps=nb_steps,
      masks=self.kernel_masks(dropped),
    )
    done.append(name)
    self.save('prune', 0)

  # Comparison.

  def before_training(self, graph: ChannelGraph) -> None:
    """Compares with other selections, if asked to."""
    if self.config.compare:
      self.state['algorithm']['comparison'] = self._comparison(self.units(graph).units)

  def _comparison(self, units: list[Unit]) -> dict[str, dict[str, float]]:
    """Magnitude and random selection with the same numbers of channels, refit and as they are."""
    config, original, results = self.config, self.original(), {}
    counts = {name: len(kept) for name, kept in self.state['algorithm']['kept'].items()}
    batches = self.images('prune', self._nb_batches(), config.batch_size)
    for selection in ('magnitude', 'random'):
      model = self.original()
      method = self._method(selection=selection, refit=True)
      masks, _ = prune(original, model, units, counts, batches, method)
      kept = {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}
      plain = self.original()
      zero_inputs(plain, dropped_inputs(units, masks))  # Else constants of what goes would be kept.
      for title, network in ((f'{selection}, refit', model), (selection, plain)):
        slim, _ = self.sliced(ChannelGraph(network), keep_of(units, kept))
        results[title] = self.accuracies(slim)
        self.say_accuracy(f'For comparison, {title}', results[title])
    return results
