"""L1 pruning of channel groups with the learners' training: a baseline for the channel learners.

Usage: python scripts/l1_group_pruning.py nets/<net>_at_<data set>_run.py --l1_macs_ratio 0.51 [flags]

Li et al. 2017: the channels with the smallest L1 norm are removed, the same fraction of every group,
until at most the given fraction of MACs is left; then the slim network is trained. Residual trunks are
pruned as well; --l1_trunk keep leaves them whole, as the paper does on CIFAR-10. Data, training,
resuming and the report are those of every learner.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

from secateurs.learners import cli, register  # noqa: E402
from secateurs.learners.channels.configs import ChannelConfig  # noqa: E402
from secateurs.learners.channels.learner import ChannelLearner  # noqa: E402
from secateurs.learners.run.phases import Phase  # noqa: E402
from secateurs.nets.experiments import experiment_of  # noqa: E402
from secateurs.utils.config import option  # noqa: E402
from secateurs.utils.graph import (  # noqa: E402
  ChannelGraph,
  channel_scores,
  choose_channels,
)


@dataclasses.dataclass(frozen=True)
class L1Config(ChannelConfig):
  """Hyper-parameters of `l1-groups`."""

  prefix = 'l1_'

  save_path: str = option('./models_l1/model.ckpt', 'Checkpoints.', affects_result=False)
  save_path_eval: str = option('./models_l1_eval/model', 'Exported files.', affects_result=False)
  trunk: str = option(
    'couple',
    'Channels joined by residual additions: couple (removed for all layers of the trunk) or keep '
    '(never removed).',
    choices=('couple', 'keep'),
  )
  macs_ratio: float = option(0.5, 'Fraction of the MACs that stays.', low=0.0, high=1.0)


@register
class L1GroupLearner(ChannelLearner):
  """Removes the channels with the smallest L1 norm, group by group."""

  name = 'l1-groups'
  Config = L1Config

  def compression_phases(self) -> list[Phase]:
    """Choice, slicing, training."""
    phases = {'choose': self._choose, 'slice': self.slice, 'finetune': self.finetune}
    return [Phase(name, run) for name, run in phases.items()]

  def requested(self) -> dict[str, Any]:
    """The fraction of MACs."""
    return {'macs_ratio': self.config.macs_ratio}

  def keep(self, graph: ChannelGraph) -> dict:
    """What the choice keeps, by group."""
    return {int(group): kept for group, kept in self.state.kept.items()}

  def _choose(self) -> None:
    graph = self.graph(self.settings.in_float32(self.model))
    skip = []
    if self.config.trunk == 'keep':
      inner = {unit.key for unit in self.units(graph).units}
      skip = [group.index for group in graph.groups if group.index not in inner]
    found = choose_channels(
      graph, channel_scores(graph, 'l1'), macs=self.config.macs_ratio, skip=skip
    )
    self.state.kept = {str(group): kept.tolist() for group, kept in found.items()}


if __name__ == '__main__':
  if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
    sys.exit(__doc__)
  cli.main(
    lambda: experiment_of(sys.argv[1]), [sys.argv[0], '--learner', 'l1-groups', *sys.argv[2:]]
  )
