"""JointSearchLearner: the smallest or fastest file within the loss that a user allows.

Channels, residual blocks, zeros and bits are choices of one table. Each try measures what every one of
them costs alone in divergence (`search.parts`), takes the cheapest that save enough together
(`search.choosing`, a grouped knapsack), refits what reads cut channels, trains shortly, and judges the
file itself on held-out training samples. A try that keeps to the limit with 95 % confidence is what the
next one starts from; else the step is halved. The evaluation set is looked at once, at the end.

Depth among the choices follows MDP (CVPR 2025), knapsacks under measured latency hardware-aware latency
pruning (Shen et al. 2021, arXiv:2110.10811). Deviations: losses are divergences after a refit, measured
on each network that the search continues from; bits and zeros are choices, too; no gates are trained.
"""

from __future__ import annotations

import dataclasses
import time

from secateurs.learners import register
from secateurs.learners.channels.cuts.slimming import norms_note
from secateurs.learners.run.compression import extended
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training.judging import judging_samples
from secateurs.learners.search import findings, opening, planning, stepping, telling
from secateurs.learners.search.building import bits_after, repaired
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.floor import require_reachable
from secateurs.learners.search.learner import SearchLearner
from secateurs.learners.search.parts import survey
from secateurs.learners.search.state import JsState, Try
from secateurs.learners.search.trying import choose_step, drop_of
from secateurs.utils.deploy.packed.halves import halve
from secateurs.utils.errors import UserError
from secateurs.utils.graph import narrowed_norms
from secateurs.utils.training import distributed

_WORK = ('survey', 'search', 'cut', 'finetune')


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
    planned = self.settings.run.plan is not None
    return [
      Phase('survey', self._survey, title='choose the kind of file, and how long tries may be'),
      Phase('cut', self._take_plan, title='cut what the plan says')
      if planned
      else Phase('search', self._search, title='try smaller and smaller networks'),
      Phase('finetune', self._finetune, self.state.final_steps),
    ]

  def closing_phases(self) -> list[Phase]:
    """For a packed file, the weights that it will have."""
    planned = None if self._plan is None else self._plan.file
    if 'packed' not in (self.config.file, planned):
      return []
    return [Phase('halves', self._halve, title='round what is no shared weight to 16 bits')]

  def findings(self) -> Findings:
    """The path of the search, what was taken, and what more loss would buy."""
    config, state, plan = self.config, self.state, self.settings.run.plan
    planned = plan is not None
    in_8_bits = self.settings.quantization.enbl_qat
    notes = [] if planned else findings.notes(config, state, in_8_bits=in_8_bits)
    if self._reach.norms == 'cut':
      names = narrowed_norms(self.original_model(), self.compressed_model())
      notes += [norms_note(names)] if names else []
    return extended(
      super().findings(),
      notes,
      requested={'plan': plan} if planned else findings.requested(config),
      extra=findings.figures(config, state),
    )

  def _measure(self) -> None:
    super()._measure()
    config, state, report = self.config, self.state, self.session.state.report
    times = self.session.times.entries
    seconds = sum(times[name].seconds for name in _WORK if name in times)
    if state.file == 'int8' and 'int8' in report['compressed']:
      report['compressed']['deployed'] = 'int8'
    report['achieved'] |= findings.reached(config, state, report, seconds)
    limited = config.limit is None and self.settings.run.plan is None
    verdict = findings.verdict(config, state, report, limited=limited)
    report['notes'].insert(0, verdict)
    say(verdict)

  def dry_run(self) -> float:
    """As of all learners; and what the search would try, and for how long."""
    seconds = super().dry_run()
    if self._plan is not None:
      return seconds
    held_out = self.helper.nb_samples('val')
    say(telling.plan(self.config, min(held_out, self.config.nb_smpls_judge)))
    return seconds

  # Before the search.

  def _survey(self) -> None:
    if self._guess_notes():
      raise UserError(f'There is nothing to hold on to: {self._guess_notes()[0]} Train it first.')
    state, config, model = self.state, self.config, self._network(0)
    self.say_judging()
    judge, began = self._judge, time.perf_counter()
    costs = self._costs
    original = judge(costs.predictor(model))
    state.percent = original.score.unit == 'percent'
    if self._plan is None:
      opening.require_tellable(config, judge.nb_samples, state.percent)
    elif self._plan.file is not None and config.file == 'auto':
      config = dataclasses.replace(config, file=self._plan.file)
    state.file, by_kind = opening.choose_file(config, costs, model, judge)
    self._set_file()
    state.cost = by_kind.get('float') or costs.of(model)
    state.start = by_kind[state.file]
    state.reference, state.nb_judged = original.parts, judge.nb_samples
    state.reference_value = original.score.goodness
    state.reference_is, state.step = 'the original', config.first_step
    if self._plan is None:
      scene = self._scene(0)
      require_reachable(config, scene, self._costs, judge, lambda: self.repair)
    if config.cost == 'latency' and self._plan is None:
      state.ms_by_part = opening.milliseconds(scene, self._costs)
    net = self.settings.in_training_precision(model)
    steps = opening.training_steps(
      config, self.settings, self.rates, self.objective(net), net, state.start
    )
    state.try_steps, state.final_steps = steps
    state.seconds += time.perf_counter() - began
    say(telling.opening(config, state, original.score))

  # The search.

  def _search(self) -> None:
    state, config = self.state, self.config
    asked = state.referred or state.candidate is not None or bool(state.tries)
    if not asked and opening.may_have_seen(self.settings):
      self._begin(Try(0, 0, state.start), self._network(0))
    while not state.ended:
      if state.candidate is not None:
        self._finish(state.candidate)
        continue
      stand = stepping.Stand(self._cost_of(state.base), state.step, len(state.tries), state.seconds)
      state.ended = stepping.over(
        stand,
        limit=config.allowed,
        most_tries=config.nb_tries,
        most_seconds=config.seconds * opening.FOR_SEARCH,
        last_seconds=[one.seconds for one in state.tries],
      ) or self._try(stand)
    say(f'search  {state.ended}')
    telling.require_limit(config, state)
    self._take(state.base)

  def _take(self, number: int) -> None:
    """Makes a network of the search the run's."""
    self.state.chosen = number
    if number:
      self.model = self.settings.in_training_precision(self._network(number))
      self._share(self.model, self.state.tries[number - 1].bits)

  # In place of the search.

  def _take_plan(self) -> None:
    """The phase that makes the cut of a plan, without a search."""
    state, scene, judge = self.state, self._scene(0), self._judge
    model = self._with_statistics(planning.applied(self._plan, scene, self.repair), 'plan')
    bits = {**scene.bits, **self._plan.bits} if scene.bits else {}
    judged = judge(self._costs.predictor(model))
    drop = drop_of(state.reference, judged, stepping.LOOKS_AT_THE_END)
    cost = self._costs.of(model, bits)
    tried = Try(1, 0, cost, cost, score=judged.score.value, drop=drop.value, most=drop.most)
    tried.accepted, tried.bits, tried.taken = True, bits, planning.taken_of(self._plan)
    state.tries, state.base, state.ended = [tried], 1, 'The plan was applied.'
    say(f'plan  {telling.ending(self.config, state, tried)}')
    distributed.from_chief(lambda: self._write(1, model, best=True))
    self._take(1)

  def _try(self, stand: stepping.Stand) -> str:
    """Begins a try; why the search ends where nothing can go any more."""
    state, config, began = self.state, self.config, time.perf_counter()
    if state.file == 'packed' and not state.tries and config.limit is None:
      return self._try_form(stand)
    scene, repair = self._scene(state.base), self.repair
    if state.base not in self._known:
      samples, _ = judging_samples(self.helper, config.nb_smpls_scan)
      self._known = {state.base: survey(scene, repair, samples, say)}
    target = stepping.target(stand, config.limit, drifts=state.file == 'packed')
    taken, cost = choose_step(scene, self._known[state.base], self._costs, stand.cost, target)
    if not taken or (cost > stand.cost * stepping.SMALLEST_STEP and cost > target):
      return 'Nothing more can be taken that saves enough.'
    if self._was_tried(taken):
      return ''
    model, cuts = repaired(scene.model, taken, scene.reach, repair, self.settings)
    number = len(state.tries) + 1
    model = self._with_statistics(model, f'try {number}')
    tried = Try(number, state.base, target, taken=taken, bits=bits_after(scene.bits, taken))
    tried.predicted = sum(one.loss for one in taken)
    tried.channels = [dataclasses.asdict(cut) for cut in cuts]
    tried.seconds = time.perf_counter() - began
    say(telling.beginning(config, tried, stand))
    self._begin(tried, model)
    return ''

  # The end.

  def _halve(self) -> None:
    if self.state.file == 'packed':
      halve(self.model)

  def _finetune(self) -> None:
    state, config = self.state, self.config
    before = state.tries[state.chosen - 1] if state.chosen else None
    if before is None:
      return
    if self._shadows is not None and self.session.starts_over('finetune'):
      self._make_room(before.bits)
      self._shadows.start()
    self._train('finetune', self.model, state.final_steps)
    self._halve()
    over = self._over(before.bits)
    model = self.settings.in_float32(self.model)
    judged = self._judge(self._costs.predictor(model))
    looks = config.nb_looks if self._plan is None else stepping.LOOKS_AT_THE_END
    drop = drop_of(state.reference, judged, looks)
    # Where the cost has the limit, the loss is to be as little as possible.
    most = before.most if config.limit is not None else max(before.most, config.drop)
    if over or drop.most > most:
      say(f'The last training {over or "did not help"}: the network before it stays.')
      self.model.set_weights(self._network(state.chosen).get_weights())
      state.final = {'score': before.score, 'drop': before.drop, 'most': before.most}
    else:
      state.final = {'score': judged.score.value, 'drop': drop.value, 'most': drop.most}
    if state.file == 'int8':
      floats = dataclasses.replace(self._costs, file='float').predictor(model)
      state.final['drop_as_float'] = drop_of(state.reference, self._judge(floats)).value
    say(telling.final(state))
