"""ChannelPrunedLearner: drops input channels and reconstructs each layer's output.

He, Zhang & Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks" (arXiv:1707.06168).
Layer by layer, for sampled points of the input maps X_i (from the network as pruned so far) and of the
output Y (from the original network),

  min over beta, W of  || Y - sum_i beta_i X_i W_i ||^2 / 2N + lambda ||beta||_1,
  subject to ||beta||_0 <= c' (`cp_uniform_preserve_ratio` of c) and ||W_i||_F = 1           (eq. 2)

first for beta by LASSO with W fixed, then for W by least squares with beta fixed (`two-step`), or
alternately while lambda grows (`alternating`). A residual branch's last layer fits Y1 - Y1' + Y2, so
that the shortcut's error is made up for, and its first layer may read a choice of the shared channels
(`cp_trunk`).

Deviations. LASSO and least squares are solved from sums over the samples, LARS gives the whole path of
lambda at once. By default channels go one by one, each time the one whose loss least squares over the
others makes up for best (`cp_select backward`): on the same sums, and better than LASSO wherever it was
measured (docs/chn_pruned.md). Errors count as they are after the normalisation that follows, and its
mean takes up the intercept. Layers that keep all inputs are refit, too, because these have changed.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.channels.allocation.ratios import nb_kept
from secateurs.learners.channels.allocation.selection_curves import selection_curves
from secateurs.learners.channels.comparison import compare_selections
from secateurs.learners.channels.cp_config import CpConfig
from secateurs.learners.channels.cuts.cutting import (
  dropped_inputs,
  input_masks,
  mask_attentions,
  unit_masks,
)
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.even import prune_evenly
from secateurs.learners.channels.repair.method import NB_BATCHES, Method
from secateurs.learners.channels.repair.reconstruct import say_layer
from secateurs.learners.channels.state import ChannelState
from secateurs.learners.channels.width_learner import WidthLearner
from secateurs.learners.channels.widths import Widths
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.training.judging import judging_samples
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.schedules import Cosine
from secateurs.utils.training.layerwise.maps import MapStore

_DEFAULT_MACS = 0.5


@dataclasses.dataclass
class CpState(ChannelState):
  """What `chn-pruned` remembers.

  Attributes:
    groups_tuned: names of the groups of layers whose fine-tuning is done.
  """

  groups_tuned: list[str] = dataclasses.field(default_factory=list)


@register
class ChannelPrunedLearner(WidthLearner):
  """Drops input channels of convolutions, refits what is left, slices, and fine-tunes."""

  name = 'chn-pruned'
  aliases = ('channel',)
  Config, State = CpConfig, CpState
  config: CpConfig
  state: CpState
  attentions = True

  def compression_phases(self) -> list[Phase]:
    """Pruning on masks, slicing, training of the slim network."""
    return [
      *self.width_phases(),
      Phase('prune', self._prune),
      Phase('slice', self.slice),
      Phase('finetune', self.finetune, self.rates.fine_tune_steps()),
    ]

  def channels_ratio(self) -> float:
    """The preserve ratio of uniform."""
    return self.config.uniform_preserve_ratio

  # What the widths are found with.

  @functools.cached_property
  def widths(self) -> Widths:
    """Preserve ratios: what stays of each layer."""
    config = self.config
    return self.make_widths(
      width=lambda size, ratio: nb_kept(size, ratio, config.quadruple),
      ratio=config.uniform_preserve_ratio,
      budget=_DEFAULT_MACS if config.preserve_ratio is None else config.preserve_ratio,
    )

  def refit_batches(self) -> list[tuple]:
    """Samples that layers are refit over."""
    return self.samples('prune', self._nb_batches(), self.config.batch_size)

  def refit_method(self) -> Method:
    """How channels are chosen and weights refit."""
    config = self.config
    return config.method(
      config.selection,
      self.settings.run.seed,
      self._nb_batches(),
      self.map_store,
      alternating=config.scheme == 'alternating',
      scalar=config.repair == 'scalar',
      keep_zeros=self.keeps_zeros,
    )

  def _nb_batches(self) -> int:
    """Batches to sample from: as many as the memory for a feature map of all of them allows."""
    config = self.config
    return config.nb_batches or self.nb_batches_within(NB_BATCHES, config.batch_size)

  def selection_curves(self, model: keras.Model) -> dict[str, Any]:
    """What five ways to choose each layer's inputs cost, see `selection_curves`.

    Args:
      model: the network with its weights.
    """
    config, graph = self.config, self.graph(model)
    units, batches = self.units(graph).units, self.refit_batches()
    working = keras.models.clone_model(model)
    working.set_weights(model.get_weights())

    def method(selection: str) -> Method:
      found = config.method(selection, self.settings.run.seed, self._nb_batches(), MapStore)
      return self.with_scores(found, graph, units, batches)

    samples = judging_samples(self.helper, config.nb_smpls_reward)
    images = [batch[0] for batch in batches]
    task = self.helper.task
    return selection_curves(model, working, units, images, method, samples, task)

  # Pruning.

  def _prune(self) -> None:
    config, state, original = self.config, self.state, self.original()
    graph = self.graph(original)
    found = self.units(graph)
    given = None if self.settings.run.plan is None else self.planned(graph)
    counts = self.widths.counts(found.units) if given is None else {}
    state.left_whole = found.left
    size = config.list_group if config.finetune else len(found.units)
    groups = [found.units[i : i + size] for i in range(0, len(found.units), size)]
    batches = self.refit_batches()
    method = self.with_scores(self.refit_method(), graph, found.units, batches)
    images = [batch[0] for batch in batches]
    for number, group in enumerate(groups, 1):
      if any(unit.name not in state.kept for unit in group):
        chosen = None if given is None else {unit.name: given[unit.name] for unit in group}
        self._prune_group(original, found.units, group, counts, images, method, chosen)
        self.save('prune', 0)
      if config.finetune:
        self._finetune_group(number, found.units)

  def _prune_group(
    self,
    original: keras.Model,
    units: list[Unit],
    group: list[Unit],
    counts: dict[str, int],
    images: list[np.ndarray],
    method: Method,
    given: dict[str, np.ndarray] | None,
  ) -> None:
    state, model = self.state, self.working_model()
    kept, records = prune_evenly(
      original,
      model,
      group,
      counts,
      images,
      method,
      even=self.config.even_splits,
      graph=self.graph(original),
      units=units,
      kept=state.kept,
      dropped=dropped_inputs(units, unit_masks(units, state.kept)),
      given=given,
      mask=functools.partial(mask_attentions, model, self.graph(model), group),
      progress=say_layer,
    )
    self.model.set_weights(model.get_weights())
    state.kept |= {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()}
    state.layers += records

  def _finetune_group(self, number: int, units: list[Unit]) -> None:
    config, name, rates = self.config, f'finetune_group{number}', self.rates
    nb_steps = max(round(config.nb_iters_ft_ratio * rates.fine_tune_steps()), 0)
    if not nb_steps or name in self.state.groups_tuned:
      return
    masks = unit_masks(units, self.state.kept)
    self.fit(
      name,
      self.objective(),
      rates.sgd(Cosine(rates.scaled(config.lrn_rate_ft), nb_steps)),
      nb_steps=nb_steps,
      hooks=Hooks(constraints=[input_masks(self.model, units, masks)]),
    )
    mask_attentions(self.model, self.graph(self.settings.in_float32(self.model)), units, masks)
    self.state.groups_tuned.append(name)
    self.save('prune', 0)

  def before_training(self, graph: ChannelGraph) -> None:
    """Compares with other selections, if asked to."""
    if self.config.compare:
      self.state.comparison = compare_selections(
        self.settings,
        graph,
        self.original,
        self.units(graph).units,
        {name: len(kept) for name, kept in self.state.kept.items()},
        [batch[0] for batch in self.refit_batches()],
        dataclasses.replace(self.refit_method(), refit=True),
        self.bn_images(),
      )
