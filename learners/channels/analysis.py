"""--exec_mode sensitivity: what each layer of a network can lose, as a command for any network."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from secateurs.learners.channels.allocation import filter_scan
from secateurs.learners.channels.criteria.registry import of_filters
from secateurs.learners.channels.criteria.unit_ranking import Ranking
from secateurs.learners.channels.cuts.chosen_layers import chosen
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.cuts.units import Units
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.filter_learner import FilterLearner
from secateurs.learners.run.baseline import baseline_weights
from secateurs.learners.run.configs import FullPrecConfig
from secateurs.learners.run.console import say
from secateurs.learners.run.learner import Learner
from secateurs.learners.run.training.judging import judging_notes, judging_split
from secateurs.utils import nested
from secateurs.utils.deploy.pages.scan_page import write_scan
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training import distributed
from secateurs.utils.training.models.weights import assign_weights, named_weights

_CRITERION, _TRUNK = 'l1', 'couple'
_NB_SAMPLES, _NB_BATCHES, _BATCH = 1000, 10, 64


def analyse(learner: Learner) -> dict[str, Any]:
  """Measures, shows and writes what each group of channels of a learner's network can lose.

  Each group alone is pruned at 10 to 90 %, without training, and judged on held-out training samples
  (or on training samples), never on those of the evaluation. The network has the weights that were
  given, or those of a finished full-precision run, which is trained first where there is none.
  Criterion, trunk, skip and `--layers` are those of the learner where it has such flags, ranked as its
  runs rank (`filter-pruned`), else l1 over all groups.

  Args:
    learner: any.

  Returns:
    What sensitivity.json in the run's log folder holds: `curves`, (fraction gone, drop of the score) by
    the layer that makes the channels; `criterion`; `split` and `samples`; and with --cp_compare
    `selections`, see `selection_curves`.

  Raises:
    UserError: there is nothing to prune, or no weights, or a flag names a layer that there is not.
  """
  settings, helper, config = learner.settings, learner.helper, learner.config
  distributed.from_chief(learner.files.require_writable)
  of_learner = config if isinstance(config, FullPrecConfig) else FullPrecConfig()
  values, source = baseline_weights(settings, of_learner)
  model = helper.build_model(settings.run.seed)
  assign_weights(named_weights(model), values, source)
  say(f'Sensitivity of {helper.net}: {source}')
  for note in judging_notes(helper):
    say(note)
  graph = getattr(learner, 'graph', ChannelGraph)(model)
  ranking, found = _ranking(learner), _units(learner, graph)
  if not found.units:
    raise UserError(
      f'No layer of {helper.net} has channels that can be pruned '
      f'({"; ".join(found.left) or "none"}): '
      'there is nothing to analyse.'
    )
  ranking.require_answer(graph, found.units)
  keys = ranking.keys(graph, found.units).keys
  nb_samples = getattr(config, 'nb_smpls_reward', _NB_SAMPLES)
  curves, nb_scanned = filter_scan.sensitivity(graph, found.units, keys, helper, nb_samples)
  say(
    f'Drop of the score in hundredths on {nb_scanned} samples, by the fraction that goes\n'
    f'{filter_scan.as_text(curves)}'
  )
  result = {
    'net': helper.net,
    'dataset': helper.dataset.name,
    'weights': source,
    'criterion': ranking.criterion,
    'split': judging_split(helper),
    'samples': nb_scanned,
    'left_whole': found.left,
    'curves': curves,
    'table': filter_scan.table(curves),
  }
  if getattr(config, 'compare', False):
    result['selections'] = learner.selection_curves(model)
  folder = learner.files.log_dir
  for path in distributed.from_chief(lambda: write_scan(result, folder)):
    say(str(path))
  return result


def _units(learner: Learner, graph: ChannelGraph) -> Units:
  """Groups of channels that layers make, by the learner's flags and --layers."""
  if isinstance(learner, FilterLearner):
    return learner.units(graph)
  config, prefix = learner.config, _prefix(learner)
  trunk, skipped = getattr(config, 'trunk', _TRUNK), getattr(config, 'skipped', ())
  return chosen(learner.settings.layers, graph, filter_units(graph, trunk, skipped, prefix=prefix))


def _ranking(learner: Learner) -> Ranking:
  """That of a run where it ranks by a score of what layers make, else one by l1."""
  criterion = getattr(learner.config, 'criterion', _CRITERION)
  if criterion not in of_filters():
    criterion = _CRITERION
  if isinstance(learner, FilterLearner):
    return dataclasses.replace(learner.ranking, criterion=criterion)
  return Ranking(
    criterion,
    getattr(learner.config, 'trunk', _TRUNK),
    _prefix(learner),
    learner.helper.task.loss,
    learner.settings.run.seed,
    functools.partial(_batches, learner),
  )


def _prefix(learner: Learner) -> str:
  """Of the flags that leave channels whole: those of filter-pruned where a learner has none."""
  return (learner.config if hasattr(learner.config, 'skipped') else FpConfig).prefix


def _batches(learner: Learner) -> list[tuple]:
  """This process's part of some training batches."""
  index, nb_ranks = distributed.shard()
  drawn = learner.helper.train_batches(
    _BATCH, learner.settings.stream_seed('score'), augment='none'
  )
  mine = drawn.take(max(_NB_BATCHES, nb_ranks)).shard(nb_ranks, index)
  return [nested.as_numpy((batch[0], batch[1])) for batch in mine]
