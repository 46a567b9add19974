"""--exec_mode sensitivity: what each layer of a network can lose, as a command for any network."""

from __future__ import annotations

from typing import Any

from secateurs.learners.channels.allocation import filter_scan
from secateurs.learners.channels.criteria.data_criteria import Samples
from secateurs.learners.channels.criteria.judged import makers, require_answer, unit_keys
from secateurs.learners.channels.criteria.registry import CRITERIA, of_filters
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.run.baseline import baseline_weights
from secateurs.learners.run.configs import FullPrecConfig
from secateurs.learners.run.console import say
from secateurs.learners.run.learner import Learner
from secateurs.learners.run.training.judging import judging_notes, judging_split
from secateurs.utils import nested
from secateurs.utils.deploy.pages.scan_page import write_scan
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.choice.taps import OUTPUT
from secateurs.utils.training import distributed
from secateurs.utils.training.models.weights import assign_weights, named_weights

_CRITERION, _TRUNK = 'l1', 'couple'
_NB_SAMPLES, _NB_BATCHES, _BATCH = 1000, 10, 64


def analyse(learner: Learner) -> dict[str, Any]:
  """Measures, shows and writes what each group of channels of a learner's network can lose.

  Each group alone is pruned at 10 to 90 %, without training, and judged on held-out training samples
  (or on training samples), never on those of the evaluation. The network has the weights that were
  given, or those of a finished full-precision run, which is trained first where there is none.
  Criterion, trunk and skip are those of the learner where it has such flags (`filter-pruned`), else l1
  over all groups.

  Args:
    learner: any.

  Returns:
    What sensitivity.json in the run's log folder holds: `curves`, (fraction gone, drop of the score) by
    the layer that makes the channels; `criterion`; `split` and `samples`; and with --cp_compare
    `selections`, see `selection_curves`.

  Raises:
    UserError: there is nothing to prune, or no weights.
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
  criterion = getattr(config, 'criterion', _CRITERION)
  if criterion not in of_filters():
    criterion = _CRITERION
  found = filter_units(graph, getattr(config, 'trunk', _TRUNK), getattr(config, 'skipped', ()))
  if not found.units:
    raise UserError(
      f'No layer of {helper.net} has channels that can be pruned '
      f'({"; ".join(found.left) or "none"}): '
      'there is nothing to analyse.'
    )
  require_answer(criterion, graph, found.units, 'fp_criterion')
  keys, _ = unit_keys(
    criterion,
    graph,
    found.units,
    _samples(learner, criterion, makers(graph, found.units)),
    order=getattr(config, 'order', 'best'),
    normalization='none',
  )
  nb_samples = getattr(config, 'nb_smpls_reward', _NB_SAMPLES)
  curves = filter_scan.sensitivity(graph, found.units, keys, helper, nb_samples)
  say(f'Drop of the score in hundredths, by the fraction that goes\n{filter_scan.as_text(curves)}')
  result = {
    'net': helper.net,
    'dataset': helper.dataset.name,
    'weights': source,
    'criterion': criterion,
    'split': judging_split(helper),
    'samples': min(nb_samples, helper.nb_samples(judging_split(helper))),
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


def _samples(learner: Learner, criterion: str, layers: set[str]) -> Samples:
  batches: list[tuple] = []
  if CRITERIA.find(criterion).on_data:
    index, nb_ranks = distributed.shard()
    drawn = learner.helper.train_batches(
      _BATCH, learner.settings.stream_seed('score'), augment='none'
    )
    batches = [
      nested.as_numpy((batch[0], batch[1]))
      for batch in drawn.take(_NB_BATCHES).shard(nb_ranks, index)
    ]
  loss = learner.helper.task.loss
  return Samples(batches, loss, OUTPUT, layers, seed=learner.settings.run.seed)
