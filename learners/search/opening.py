"""What is known before the search: the kind of file, its cost, and how long trainings may be."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.given import came_trained
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training.rates import Rates
from secateurs.learners.search import stepping
from secateurs.learners.search.building import even_bits
from secateurs.learners.search.confidence import least_drop, least_samples
from secateurs.learners.search.config import HALF, HELD_OUT, JsConfig
from secateurs.learners.search.files import Costs
from secateurs.learners.search.scene import Scene
from secateurs.learners.search.state import Taken
from secateurs.learners.search.trying import Judge, drop_of
from secateurs.utils.errors import UserError
from secateurs.utils.graph import drop_block, residual_blocks
from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop

_TIMED_STEPS, _WARM_UP_STEPS = 8, 2
FOR_SEARCH = 0.65  # Fraction of the time after which no try is begun.
_FOR_TRIES, _FOR_END = 0.35, 0.25  # Fractions of the time that trainings take.
# Where the cost has a limit, tries are known in number, and what counts is the last training.
_FOR_TRIES_TO_LIMIT, _FOR_END_AT_LIMIT = 0.25, 0.45
_MOST_EPOCHS_TRY, _MOST_EPOCHS_END = 1.0, 10.0
_LEAST_STEPS = 10
_USUAL_TRIES = 8  # Of which the time for tries is shared out, where more are allowed.
_LOSS_OF_FILE = 0.5  # Fraction of the allowed drop that the kind of file alone may take.


def may_have_seen(settings: Settings) -> bool:
  """Whether a network came trained, so that it may know the samples that are held out now."""
  held_out = settings.config.judge == HELD_OUT
  return held_out and came_trained(settings.helper, settings.run)


def choose_file(
  config: JsConfig, costs: Costs, model: keras.Model, judge: Judge
) -> tuple[str, dict[str, float]]:
  """The kind of file with the least cost whose own loss leaves room for more.

  Args:
    config: what was asked for.
    costs: of float files.
    model: the original, float32.
    judge: scores on held-out samples.

  Returns:
    (file, costs by kind): what the original costs in each kind that was looked at.
  """
  kinds = {'macs': ['float']}.get(config.cost, ['float', 'int8'])
  kinds = kinds if config.file == 'auto' else [config.file]
  found: dict[str, float] = {}
  before = judge(costs.predictor(model)) if len(kinds) > 1 else None
  for kind in kinds:
    here = dataclasses.replace(costs, file=kind)
    try:
      bits = even_bits(model, config.weight_bits) if kind == 'packed' else None
      found[kind] = here.of(model, bits)
      if not math.isfinite(found[kind]):
        raise UserError(f'the runtime does not run the {kind} file; give another --js_file')
      if before is not None and kind != 'float':
        drop = drop_of(before.parts, judge(here.predictor(model)))
        say(
          f'file  {kind}: {found[kind]:,.4g} against {found["float"]:,.4g}, drop {drop.value:.4f}'
        )
        if config.limit is None and drop.value > _LOSS_OF_FILE * config.drop:
          del found[kind]
    except UserError as error:
      if len(kinds) == 1:
        raise
      say(f'file  {kind}: not possible ({error})')
  return min(found, key=found.get), found


def require_tellable(config: JsConfig, nb_samples: int, percent: bool) -> None:
  """Checks that there are so many samples to judge on that a drop can be seen at all.

  Raises:
    UserError: there are not.
  """
  if not percent or config.limit is not None:
    return
  least = least_samples(config.drop, config.nb_looks)
  if nb_samples >= least:
    return
  remedy = 'hold out at least {} (--nb_smpls_val -1 takes a fifth of the training samples)'
  if config.judge == HALF:
    remedy = 'give at least {} to each half of the evaluation set'
  raise UserError(
    f'--js_max_drop {config.drop:g} cannot be shown with 95 % confidence on {nb_samples} '
    f'samples, whatever is tried: {remedy.format(least)}, or allow a drop of '
    f'{least_drop(nb_samples, config.nb_looks):.3g}.'
  )


def training_steps(
  config: JsConfig,
  settings: Settings,
  rates: Rates,
  objective: loop.Objective,
  network: keras.Model,
  start: float,
) -> tuple[int, int]:
  """Training steps of each try and of the end: what flags say, else what the time allows.

  The time of a step is measured on some batches, at a rate of zero; the network is given back its
  weights. `start` is what the network costs before the search.
  """
  final = settings.training.nb_epochs_ft
  if config.nb_epochs_try is not None and final is not None:
    return rates.nb_steps(config.nb_epochs_try), rates.nb_steps(final)
  weights = network.get_weights()
  step = loop.TrainStep(objective, network.trainable_variables, rates.sgd(0.0))
  batches = iter(settings.helper.train_batches(rates.batch_size, settings.stream_seed('speed')))
  step.run(batches, _WARM_UP_STEPS)
  began = time.perf_counter()
  step.run(batches, _TIMED_STEPS)
  seconds = distributed.from_chief(lambda: (time.perf_counter() - began) / _TIMED_STEPS)
  network.set_weights(weights)
  tries, end = (share * config.seconds / seconds for share in time_shares(config, start))
  say(f'time  a training step takes {1000 * seconds:.0f} ms')
  most_at_end = min(rates.nb_steps(_MOST_EPOCHS_END), rates.fine_tune_steps())
  return (
    _within(tries, rates.nb_steps(_MOST_EPOCHS_TRY))
    if config.nb_epochs_try is None
    else rates.nb_steps(config.nb_epochs_try),
    _within(end, most_at_end) if final is None else rates.nb_steps(final),
  )


def time_shares(config: JsConfig, start: float) -> tuple[float, float]:
  """Fractions of the time that the training of one try, and that at the end, may take.

  `start` is what the network costs before the search.
  """
  if config.limit is None:
    return _FOR_TRIES / min(config.nb_tries, _USUAL_TRIES), _FOR_END
  nb_tries = min(stepping.nb_steps_to(config.limit, start, config.first_step), config.nb_tries)
  return _FOR_TRIES_TO_LIMIT / nb_tries, _FOR_END_AT_LIMIT


def _within(steps: float, most: int) -> int:
  return max(min(int(steps), most), _LEAST_STEPS)


def milliseconds(scene: Scene, costs: Costs) -> dict[str, float]:
  """What each residual block is worth, and each channel of a unit, in ms of the real file.

  Files without the block, and with half of the unit's channels, are timed against the original's.
  """
  model = scene.model
  graph = scene.graph()
  contents = {'': costs.content(model, rough=True)}
  halves: dict[str, int] = {}
  for name in residual_blocks(model):
    contents[name] = costs.content(drop_block(model, name), rough=True)
  for unit in scene.units(graph):
    half = unit.size // 2
    if half:
      halves[unit.name] = unit.size - half
      taken = [Taken(unit.name, 'channels', unit.size, half, 0.0)]
      contents[unit.name] = costs.content(scene.rough(taken), rough=True)
  times = costs.latencies(contents)
  found = {}
  for name, ms in times.items():
    if name:
      found[name] = max(times[''] - ms, 0.0) / halves.get(name, 1)
  return found


def pick_reference(
  original: tuple[float, Sequence[float]],
  control: tuple[float, Sequence[float]],
  harm: float = 0.0,
  allowed: float = math.inf,
) -> tuple[str, list[float], float]:
  """What tries are compared with, from (goodness, goodness by part) of both.

  A network that came trained may have seen the samples that are held out now.
  The same network after the short training of a try, from which they are held out, has forgotten as
  much as a try has: where it is worse, it is the fair reference. What it lost on samples that it
  trained on (`harm`, at least 0) is not forgotten but spoiled by the training, as by a rate that is too
  high, and is no loss that a try may have, too. Above what is `allowed` it is undone, see
  `learner.SearchLearner`, so that it forgets nothing.
  """
  value = control[0] + harm
  if harm <= allowed and value < original[0]:
    return 'the original after the training of a try', [one + harm for one in control[1]], value
  return 'the original', list(original[1]), original[0]
