"""JointSearchLearner: the smallest or fastest file within the loss that a user allows.

Channels, residual blocks, zeros and bits are choices of one table. Each try measures what every one of
them costs alone in divergence (`search.parts`), takes the cheapest that save enough together
(`search.choosing`, a grouped knapsack), refits what reads cut channels, trains shortly, and judges the
file itself on held-out training samples. A try that keeps to the limit with 95 % confidence is what the
next one starts from; else the step is halved. The evaluation set is looked at once, at the end.

Depth among the choices follows MDP (CVPR 2025), knapsacks under measured latency hardware-aware latency
pruning (Shen et al. 2021, arXiv:2110.10811). Deviations: losses are divergences after a refit, measured
on each network that the search goes on from; bits and zeros are further choices; no gates are trained.
"""

from __future__ import annotations

import time

from secateurs.learners import register
from secateurs.learners.run.compression import extended
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training.judging import judging_notes, judging_samples, judging_split
from secateurs.learners.search import opening, stepping, telling
from secateurs.learners.search.building import bits_after, repaired
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.learner import SearchLearner
from secateurs.learners.search.parts import survey
from secateurs.learners.search.state import JsState, Try
from secateurs.learners.search.trying import choose_step, drop_of
from secateurs.utils.errors import UserError
from secateurs.utils.training.models.batch_norm import reestimate


@register
class JointSearchLearner(SearchLearner):
  """Searches channels, blocks, zeros and bits together along one budget."""

  name = 'joint-search'
  aliases = ('joint',)
  Config, State = JsConfig, JsState
  config: JsConfig
  state: JsState

  def compression_phases(self) -> list[Phase]:
    """What is known before, the tries, and the last training."""
    return [
      Phase('survey', self._survey, title='choose the kind of file, and how long tries may be'),
      Phase('search', self._search, title='try smaller and smaller networks'),
      Phase('finetune', self._finetune, self.state.final_steps),
    ]

  def findings(self) -> Findings:
    """The path of the search, what was taken, and what more loss would buy."""
    given = telling.findings(self.config, self.state)
    notes = [*given['notes'], *judging_notes(self.helper)]
    return extended(super().findings(), notes, requested=given['requested'], extra=given['extra'])

  def _measure(self) -> None:
    super()._measure()
    report = self.session.state.report
    verdict = telling.verdict(self.config, report, self.state.file)
    report['notes'].insert(0, verdict)
    say(verdict)

  def dry_run(self) -> None:
    """As of all learners; and what the search would try, and for how long."""
    super().dry_run()
    samples = self.helper.nb_samples(judging_split(self.helper))
    say(telling.plan(self.config, min(samples, self.config.nb_smpls_judge)))

  # Before the search.

  def _survey(self) -> None:
    if self._guess_notes():
      raise UserError(f'There is nothing to hold on to: {self._guess_notes()[0]} Train it first.')
    state, config, model = self.state, self.config, self._network(0)
    self.say_judging()
    judge, began = self._judge, time.perf_counter()
    costs = self._costs
    original = judge(costs.predictor(model))
    opening.require_tellable(config, judge.nb_samples, original.score.unit == 'percent')
    state.file, by_kind = opening.choose_file(config, costs, model, judge)
    self._set_file()
    state.cost = by_kind.get('float') or costs.of(model)
    state.start = by_kind[state.file]
    state.reference, state.nb_judged = original.parts, judge.nb_samples
    state.reference_value = original.score.goodness
    state.reference_is, state.step = 'the original', config.first_step
    if config.cost == 'latency':
      state.ms_by_part = opening.milliseconds(self._scene(0), self._costs)
    network = self.settings.in_training_precision(model)
    objective = self.objective(network)
    steps = opening.training_steps(config, self.settings, self.rates, objective, network)
    state.try_steps, state.final_steps = steps
    state.seconds += time.perf_counter() - began
    say(telling.opening(config, state, original.score))

  # The search.

  def _search(self) -> None:
    state, config = self.state, self.config
    if state.candidate is None and not state.tries and opening.may_have_seen(self.settings):
      self._begin(Try(0, 0, state.start), self._network(0))
    while not state.ended:
      if state.candidate is not None:
        self._finish(state.candidate)
        continue
      stand = stepping.Stand(self._cost_of(state.base), state.step, len(state.tries), state.seconds)
      state.ended = stepping.over(
        stand,
        limit=config.limit,
        most_tries=config.nb_tries,
        most_seconds=config.seconds * opening.FOR_SEARCH,
        last_seconds=[one.seconds for one in state.tries],
      ) or self._try(stand)
    say(f'search  {state.ended}')
    telling.require_limit(config, state)
    state.chosen = state.base
    if state.chosen:
      self.model = self.settings.in_training_precision(self._network(state.chosen))
      self._share(self.model, state.tries[state.chosen - 1].bits)

  def _cost_of(self, number: int) -> float:
    return self.state.tries[number - 1].cost if number else self.state.start

  def _try(self, stand: stepping.Stand) -> str:
    """Begins a try; why the search ends where nothing can go any more."""
    state, config, began = self.state, self.config, time.perf_counter()
    scene, repair = self._scene(state.base), self.repair
    if state.base not in self._known:
      samples, _ = judging_samples(self.helper, config.nb_smpls_scan)
      self._known = {state.base: survey(scene, repair, samples, say)}
    target = stepping.target(stand, config.limit)
    taken, cost = choose_step(scene, self._known[state.base], self._costs, stand.cost, target)
    if not taken or (cost > stand.cost * stepping.SMALLEST_STEP and cost > target):
      return 'Nothing more can be taken that saves anything.'
    model = repaired(scene.model, taken, scene.trunk, scene.skip, repair, self.settings)
    reestimate(model, self.bn_batches(model))
    number = len(state.tries) + 1
    tried = Try(number, state.base, target, taken=taken, bits=bits_after(scene.bits, taken))
    tried.predicted = sum(one.loss for one in taken)
    tried.seconds = time.perf_counter() - began
    say(telling.beginning(config, tried, stand))
    self._begin(tried, model)
    return ''

  # The end.

  def _finetune(self) -> None:
    state, config = self.state, self.config
    before = state.tries[state.chosen - 1] if state.chosen else None
    if before is None:
      return
    if self._shadows is not None and self.session.starts_over('finetune'):
      self._shadows.start()
    self._train('finetune', self.model, state.final_steps)
    model = self.settings.in_float32(self.model)
    judged = self._judge(self._costs.predictor(model))
    drop = drop_of(state.reference, judged)
    if drop.most > max(before.most, config.max_drop):
      say('The last training did not help: the network before it stays.')
      self.model.set_weights(self._network(state.chosen).get_weights())
      state.final = {'score': before.score, 'drop': before.drop, 'most': before.most}
    else:
      state.final = {'score': judged.score.value, 'drop': drop.value, 'most': drop.most}
    say(telling.final(config, state))
