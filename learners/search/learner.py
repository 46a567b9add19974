"""How a network of a search is tried: trained shortly, judged by its file, taken or not."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.preflight.checks import Check
from secateurs.learners.run.training.judging import judging_samples
from secateurs.learners.search import opening, samples, stepping, telling
from secateurs.learners.search.building import Repair, even_bits
from secateurs.learners.search.networks import NetworkLearner
from secateurs.learners.search.state import Taken, Try, cuts_of
from secateurs.learners.search.trimming import trim
from secateurs.learners.search.trying import Judge, drop_of
from secateurs.utils.deploy.packed.halves import halve
from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.copying import copy_flat
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.models.batch_norm import batch_norms, reestimate
from secateurs.utils.training.models.quantization import zero_masks

_NB_TRAINED_ON = 2000
_DRIFT = 0.05  # Of a limit: a try that is over it by more takes another step.
_NEARLY = 0.999  # Statistics are estimated again after a trim, and may take some bytes more.
_ROOM = 0.03  # Of a limit, which the last training makes codes longer by.


class SearchLearner(NetworkLearner):
  """Trains and judges the network that is tried."""

  def preflight(self) -> list[Check]:
    """As of all learners, and whether a drop can be seen on so many samples at all."""
    held_out = functools.partial(samples.require_held_out, self.helper)
    return [*super().preflight(), held_out, self._require_tellable]

  def _require_tellable(self) -> None:
    held_out = self.helper.nb_samples('val')
    if held_out and self.helper.task.name == 'classification' and self._plan is None:
      opening.require_tellable(self.config, min(held_out, self.config.nb_smpls_judge), True)

  @functools.cached_property
  def _judge(self) -> Judge:
    inputs, targets = judging_samples(self.helper, self.config.nb_smpls_judge)
    return Judge(inputs, targets, self.helper.task)

  def _begin(self, tried: Try, model: keras.Model) -> None:
    distributed.from_chief(lambda: self._write(tried.number, model))
    self._open(tried, self._network(tried.number, trained=False))
    if self._shadows is not None:
      self._shadows.start()
    self.state.candidate = tried
    self.save('search', 0)

  def _cost_of(self, number: int) -> float:
    return self.state.tries[number - 1].cost if number else self.state.start

  def _try_form(self, stand: stepping.Stand) -> str:
    """Begins a try that takes nothing but bits: a packed file of these is what other tries rest on."""
    model = self._network(0)
    tried = Try(1, 0, stand.cost, bits=even_bits(model, self.config.weight_bits))
    say(telling.beginning(self.config, tried, stand))
    self._begin(tried, model)
    return ''

  def _finish(self, tried: Try) -> None:
    """Trains and judges the candidate, and decides whether the search continues from it."""
    state, config, began = self.state, self.config, time.perf_counter()
    self._train_candidate(tried)
    if state.file == 'packed':
      halve(self._candidate)
    model = self.settings.in_float32(self._candidate)
    if tried.number == 0:
      self._refer(model)
    elif not self._settled(tried, model, began):
      tried.longer = True
      tried.seconds += time.perf_counter() - began
      self.save('search', 0)
      return
    tried.seconds += time.perf_counter() - began
    state.seconds += tried.seconds
    state.candidate = self._candidate = self._shadows = None
    for name in (f'try{tried.number}', f'try{tried.number}_longer'):
      self.session.times.entries.pop(name, None)  # They are part of the search.
    if tried in state.tries:
      say(telling.ending(config, state, tried))
    self.save('search', 0)

  def _was_tried(self, taken: Sequence[Taken]) -> bool:
    """Whether a try from the same network took just this and was too much; the step is halved then."""
    state = self.state
    found = any(
      one.base == state.base and cuts_of(one.taken) == cuts_of(taken) for one in state.tries
    )
    if found:
      say('try  the choice for a smaller step is one that was too much: the step is halved')
      state.step = stepping.next_step(state.step, accepted=False)
    return found

  def _train_candidate(self, tried: Try) -> None:
    """Trains the candidate; where that ruins it, it stays as it was before."""
    name, network, nb_steps = self._lesson(tried)
    self._train(name, network, nb_steps)
    if tried.number == 0 or self.state.file == 'packed' or not nb_steps:
      return
    before, what = self._network(tried.number, trained=False), f'try {tried.number}'
    after = self.settings.in_float32(network)
    tried.as_cut = self._is_ruined(before, after, what, 'the training')
    if tried.as_cut:
      network.set_weights(before.get_weights())

  def _with_statistics(self, cut: keras.Model, what: str) -> keras.Model:
    """A network with new statistics of batch normalisation; as it is where they would ruin it."""
    if not batch_norms(cut):
      return cut
    found = copy_flat(flatten_model(cut))
    reestimate(found, self.bn_batches(found))
    return cut if self._is_ruined(cut, found, what, 'new batch-norm statistics') else found

  def _is_ruined(self, before: keras.Model, after: keras.Model, what: str, cause: str) -> bool:
    """Whether a network lost more than is allowed on samples of the training, which is undone then.

    It does where it came with statistics of other data, and at a rate that is too high.
    """
    harm = self._harm(before, after)
    if harm > self.config.drop:
      say(
        f'{what}  {cause} cost {telling.size(self.state, harm)} on training samples, more than is '
        'allowed: undone'
      )
    return harm > self.config.drop

  def _lesson(self, tried: Try) -> tuple[str, keras.Model, int]:
    """Name, network and steps of the training that a candidate is in."""
    steps = self.state.try_steps
    if tried.longer:
      return f'try{tried.number}_longer', self._candidate, stepping.LONGER * steps
    return f'try{tried.number}', self._candidate, steps

  def _refer(self, model: keras.Model) -> None:
    """Takes the trained original as the reference, where that is fair."""
    state = self.state
    costs = dataclasses.replace(self._costs, file='float')
    judged, harm = self._judge(costs.predictor(model)), self._harm(self.original_model(), model)
    original = state.reference_value, state.reference
    control = judged.score.goodness, judged.parts
    found = opening.pick_reference(original, control, harm, self.config.drop)
    state.reference_is, state.reference, state.reference_value = found
    state.referred = True
    say(
      f'reference  {state.reference_is}; after the training of a try: {judged.score}, and '
      f'{telling.points(state, 0.0 - harm)} on samples of that training'
    )

  def _harm(self, before: keras.Model, after: keras.Model) -> float:
    """How much worse a network is after the training of a try on samples of that training."""
    number = min(self.config.nb_smpls_judge, _NB_TRAINED_ON)
    judge = Judge(*judging_samples(self.helper, number, 'train'), self.helper.task)
    costs = dataclasses.replace(self._costs, file='float')
    found = [judge(costs.predictor(net)).score.goodness for net in (before, after)]
    return max(found[0] - found[1], 0.0)

  def _has_time(self, tried: Try, began: float) -> bool:
    """Whether a longer training would be over within the time of the search."""
    took = time.perf_counter() - began
    spent = self.state.seconds + tried.seconds + (1 + stepping.LONGER) * took
    return distributed.from_chief(lambda: spent <= opening.FOR_SEARCH * self.config.seconds)

  def _settled(self, tried: Try, model: keras.Model, began: float) -> bool:
    """Judges a candidate; False where it is so near to the limit that it is to train longer."""
    state, config = self.state, self.config
    self._trim_a_little(tried, model)
    try:
      predictor = self._costs.predictor(model)
      tried.cost = self._costs.of(model, tried.bits)
    except UserError as error:  # The runtime does not take the file.
      say(f'try {tried.number}  not possible ({error})')
      tried.cost = math.inf
    if not math.isfinite(tried.cost):
      state.step = stepping.next_step(state.step, accepted=False)
      return True
    judged = self._judge(predictor)
    drop = drop_of(state.reference, judged, config.nb_looks)
    tried.score, tried.drop, tried.most = judged.score.value, drop.value, drop.most
    tried.accepted = config.limit is not None or drop.most <= config.drop
    # What ruined it would do so again.
    done = tried.accepted or tried.longer or tried.as_cut
    if not done and stepping.is_near(drop.value, config.drop) and self._has_time(tried, began):
      say(
        f'try {tried.number}  drop {telling.points(state, drop.value)}: near, so it trains longer'
      )
      return False
    state.tries.append(tried)
    if tried.accepted:
      distributed.from_chief(lambda: self._write(tried.number, model, best=True))
      state.base = tried.number
    state.step = stepping.next_step(state.step, tried.accepted)
    return True

  def _trim_a_little(self, tried: Try, model: keras.Model) -> None:
    """Trims a packed file that is over its limit by no more than training changes its codes."""
    if self.state.file != 'packed' or self.config.limit is None:
      return

    def cost() -> float:
      return self._costs.of(model, tried.bits)

    if cost() <= (1 + _DRIFT) * self.config.allowed:
      self._fit_in(model, cost)

  def _fit_in(self, model: keras.Model, cost: Callable[[], float]) -> float:
    """Trims a network to the limit, with new statistics; returns what part of its weights has gone."""
    if cost() <= self.config.allowed:
      return 0.0
    gone = trim(model, cost, _NEARLY * self.config.allowed)
    reestimate(model, self.bn_batches(model))
    halve(model)
    return gone

  def _make_room(self, bits: Mapping[str, int]) -> None:
    """Trims a packed file before its last training, which makes up for that, as it would grow."""
    if self.state.file == 'packed' and self.config.limit is not None:
      trim(self.model, self._cost_with(bits), (1 - _ROOM) * self.config.allowed)

  def _over(self, bits: Mapping[str, int]) -> str:
    """What the trained network's file costs too much, if anything; a packed file is trimmed first."""
    config = self.config
    # A latency is that of the structure, which stays.
    if config.limit is None or config.cost == 'latency':
      return ''

    cost = self._cost_with(bits)
    if self.state.file == 'packed':
      gone = self._fit_in(self.model, cost)
      if gone:
        say(f'end  the file had grown: {100 * gone:.1f} % of its weights were set to zero')
    return telling.over_limit(config, cost())

  def _cost_with(self, bits: Mapping[str, int]) -> Callable[[], float]:
    """What the run's network costs as it is when this is called."""
    return lambda: self._costs.of(self.settings.in_float32(self.model), bits, rough=False)

  def _train(self, phase: str, network: keras.Model, nb_steps: int) -> None:
    if not nb_steps:
      return
    masks = zero_masks(network) if self._shadows is None else self._shadows.masks
    constraint = masks if self._shadows is None else self._shadows
    self.fit(
      phase,
      self.objective(network),
      self.rates.fine_tune_optimizer(nb_steps, masks),
      nb_steps=nb_steps,
      network=network,
      hooks=Hooks(constraints=[] if constraint is None else [constraint]),
      averaged=phase == 'finetune',
    )
    reestimate(network, self.bn_batches(network))  # After so short a training averages are late.

  # Samples.

  def bn_batches(self, model: keras.Model) -> Iterable[tf.Tensor]:
    """Batches of inputs that batch normalisation is re-estimated over."""
    return samples.bn_batches(self.settings, self.sample_augmentation, model)

  @functools.cached_property
  def repair(self) -> Repair:
    """Samples and method of refits."""
    return samples.repair(self.settings, self.sample_augmentation, self.budget.store)
