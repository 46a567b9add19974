"""What phases add to a training step, against slow NumPy oracles, and the order of it all."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.configs import FullPrecConfig, RunConfig, TrainConfig
from secateurs.learners.run.learner import Learner
from secateurs.learners.run.phases import Phase
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.events import Event
from secateurs.utils.training.engine.hooks import Hooks, WeightDecay
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.engine.schedules import PiecewiseConstant

RATE = 0.1
NB_INPUTS, NB_OUTPUTS, NB_STEPS = 6, 4, 6


class Regression:
  """||X W + b - Y||^2 / (2 n), from batches (X [n, inputs], Y [n, outputs])."""

  metric_names = ()

  def __init__(self, weights, bias):
    self.weights, self.bias = weights, bias

  def __call__(self, batch):
    x, y = batch
    error = x @ self.weights + self.bias - y
    return tf.reduce_sum(error**2) / (2.0 * len(x)), {}


class Problem:
  """Weights that start anew, and batches of a regression with them."""

  def __init__(self):
    rng = np.random.default_rng(0)
    self.start = rng.normal(size=(NB_INPUTS, NB_OUTPUTS)).astype(np.float32)
    self.weights = tf.Variable(self.start)
    self.bias = tf.Variable(tf.zeros(NB_OUTPUTS))
    self.x = rng.normal(size=(NB_STEPS, 5, NB_INPUTS)).astype(np.float32)
    self.y = rng.normal(size=(NB_STEPS, 5, NB_OUTPUTS)).astype(np.float32)

  def train(self, hooks, *, variables=None, rate=RATE, start=0, stop=NB_STEPS):
    step = loop.TrainStep(
      Regression(self.weights, self.bias),
      [self.weights, self.bias] if variables is None else variables,
      keras.optimizers.SGD(rate),
      penalties=hooks.penalties,
      constraints=hooks.constraints,
    )
    data = tf.data.Dataset.from_tensor_slices((self.x[start:], self.y[start:]))
    loop.run(step, data, start=start, stop=stop, phase='fit', events=hooks.events)

  def by_hand(self, *, rates=None, penalty=None, constraint=None, after=None):
    """Weights and bias, float64, by plain loops over samples and outputs.

    Args:
      rates: of each step.
      penalty: from weights and bias to what is added to the weights' gradient.
      constraint: from the weights after a step, and its rate, to new ones.
      after: from the number of steps done, and the weights, to new ones.
    """
    weights, bias = self.start.astype(np.float64), np.zeros(NB_OUTPUTS)
    for number in range(NB_STEPS):
      x, y = self.x[number].astype(np.float64), self.y[number].astype(np.float64)
      of_weights, of_bias = np.zeros_like(weights), np.zeros_like(bias)
      for sample, output in itertools.product(range(len(x)), range(NB_OUTPUTS)):
        error = x[sample] @ weights[:, output] + bias[output] - y[sample, output]
        of_weights[:, output] += error * x[sample] / len(x)
        of_bias[output] += error / len(x)
      if penalty is not None:
        of_weights = of_weights + penalty(weights, bias)
      rate = RATE if rates is None else rates[number]
      weights, bias = weights - rate * of_weights, bias - rate * of_bias
      if constraint is not None:
        weights = constraint(weights, rate)
      if after is not None:
        weights = after(number + 1, weights)
    return weights, bias


@pytest.fixture
def problem():
  return Problem()


def close(problem, expected):
  np.testing.assert_allclose(problem.weights.numpy(), expected[0], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(problem.bias.numpy(), expected[1], rtol=1e-4, atol=1e-6)


class L1:
  """The sub-gradient of factor * sum |w| of one variable."""

  def __init__(self, variable, factor):
    self.variable, self.factor = variable, factor

  def __call__(self, variables):
    return [self.factor * tf.sign(v) if v is self.variable else None for v in variables]


class GroupThreshold:
  """The proximal step of factor * sum over rows of ||w_row||: rows shrink by rate * factor, to zero."""

  def __init__(self, variable, factor):
    self.variable, self.factor = variable, factor

  def apply(self, learning_rate):
    sizes = tf.norm(self.variable, axis=1, keepdims=True)
    shares = tf.nn.relu(1.0 - learning_rate * self.factor / tf.maximum(sizes, 1e-12))
    self.variable.assign(self.variable * shares)


def threshold_by_hand(weights, cut):
  """As `GroupThreshold`, row by row."""
  rows = []
  for row in weights:
    size = np.sqrt(sum(value**2 for value in row))
    rows.append(np.zeros_like(row) if size <= cut else row * (1 - cut / size))
  return np.array(rows)


def test_a_penalty_adds_its_terms_to_the_gradients(problem):
  problem.train(Hooks(penalties=[L1(problem.weights, 0.3)]))
  close(problem, problem.by_hand(penalty=lambda w, b: 0.3 * np.sign(w)))
  without = problem.by_hand()[0]
  assert np.abs(problem.weights.numpy() - without).max() > 0.01


def test_penalties_add_up(problem):
  penalties = [WeightDecay(0.5, [problem.weights]), L1(problem.weights, 0.3)]
  problem.train(Hooks(penalties=penalties))
  close(problem, problem.by_hand(penalty=lambda w, b: 0.5 * w + 0.3 * np.sign(w)))


def test_a_proximal_step_takes_the_rate_of_the_step_and_gives_exact_zeros(problem):
  """The rate falls in the middle, so that the wrong one shows."""
  factor, rates = 3.0, [RATE] * 3 + [RATE / 4] * (NB_STEPS - 3)
  proximal = GroupThreshold(problem.weights, factor)
  schedule = PiecewiseConstant(RATE, [3], 0.25)
  seen = []
  note = Event(lambda done, means: seen.append(problem.weights.numpy()), every=1)
  problem.train(Hooks(constraints=[proximal], events=[note]), rate=schedule)
  expected = []
  ends = problem.by_hand(
    rates=rates,
    constraint=lambda w, rate: threshold_by_hand(w, rate * factor),
    after=lambda done, w: expected.append(w) or w,
  )
  close(problem, ends)
  for found, wanted in zip(seen, expected, strict=True):
    np.testing.assert_array_equal(found == 0, wanted == 0)
  gone = (ends[0] == 0).all(axis=1)
  assert 0 < gone.sum() < NB_INPUTS


def test_constraints_apply_in_their_order(problem):
  """A row is shrunk by its whole length; masked before, it would be shorter."""
  keep = np.ones((NB_INPUTS, NB_OUTPUTS), np.float32)
  keep[:, 0] = 0
  masks = Masks([problem.weights], [keep])
  proximal = GroupThreshold(problem.weights, 1.0)

  def shrunk_then_masked(weights, rate):
    return threshold_by_hand(weights, rate) * keep

  def masked_then_shrunk(weights, rate):
    return threshold_by_hand(weights * keep, rate)

  expected = problem.by_hand(constraint=shrunk_then_masked)
  assert np.abs(expected[0] - problem.by_hand(constraint=masked_then_shrunk)[0]).max() > 1e-3
  problem.train(Hooks(constraints=[proximal, masks]))
  close(problem, expected)
  problem.weights.assign(problem.start)
  problem.bias.assign(np.zeros(NB_OUTPUTS))
  problem.train(Hooks(constraints=[masks, proximal]))
  close(problem, problem.by_hand(constraint=masked_then_shrunk))


@pytest.mark.parametrize('cuts', [[(0, NB_STEPS)], [(0, 3), (3, NB_STEPS)]])
def test_a_structural_event_changes_masks_in_the_middle(problem, cuts):
  """Every second step another row goes, in one run or in two."""
  masks = Masks([problem.weights])
  history = []

  def cut(done, means):
    del means
    keep = np.ones((NB_INPUTS, NB_OUTPUTS), np.float32)
    keep[: done // 2] = 0
    masks.masks[0].assign(keep)
    masks.apply()

  def note(done, means):
    history.append((problem.weights.numpy() == 0).all(axis=1).sum())

  hooks = Hooks(constraints=[masks], events=[Event(cut, every=2), Event(note, every=1)])
  for start, stop in cuts:
    problem.train(hooks, start=start, stop=stop)

  def rows_gone(done, weights):
    return np.where(np.arange(NB_INPUTS)[:, None] < done // 2, 0, weights)

  close(problem, problem.by_hand(after=rows_gone))
  assert history == [done // 2 for done in range(1, NB_STEPS + 1)]


def test_a_variable_that_the_loss_does_not_reach_is_not_penalised(problem):
  apart = tf.Variable([1.0, -2.0])
  variables = [problem.weights, apart, problem.bias]
  penalties = [WeightDecay(0.5, [apart]), L1(apart, 0.3), L1(problem.weights, 0.3)]
  problem.train(Hooks(penalties=penalties), variables=variables)
  np.testing.assert_array_equal(apart.numpy(), [1, -2])
  close(problem, problem.by_hand(penalty=lambda w, b: 0.3 * np.sign(w)))


ORDER = ['objective', 'penalty', 'optimizer', 'constraint', 'masks']
ORDER += ['structure', 'summary', 'callbacks', 'checkpoint']


class Stamps:
  """A counter that every part of a step moves on by one, in the compiled step or after it."""

  def __init__(self):
    self._counter = tf.Variable(0)
    self._last = {name: tf.Variable(-1) for name in ORDER}

  def stamp(self, name):
    self._last[name].assign(self._counter)
    self._counter.assign_add(1)

  def last(self):
    """What the counter held when each part ran last."""
    return {name: int(value) for name, value in self._last.items()}


class StampedObjective(Regression):
  def __init__(self, stamps, *variables):
    super().__init__(*variables)
    self.stamps = stamps

  def __call__(self, batch):
    self.stamps.stamp('objective')
    return super().__call__(batch)


class StampedSGD(keras.optimizers.SGD):
  stamps = None

  def apply_gradients(self, grads_and_vars, **options):
    self.stamps.stamp('optimizer')
    return super().apply_gradients(grads_and_vars, **options)


def test_the_documented_order(problem):
  """Every part takes the next number, so that those of a step follow each other in this order.

  And what each sees proves it: the optimizer steps by the penalised gradients, the constraint sees
  the stepped weights, the masks what it leaves, and the events what the masks leave.
  """
  stamps, factor = Stamps(), 0.5
  masks = Masks([problem.weights])

  class StampedPenalty(L1):
    def __call__(self, variables):
      stamps.stamp('penalty')
      return super().__call__(variables)

  class StampedConstraint(GroupThreshold):
    def apply(self, learning_rate):
      stamps.stamp('constraint')
      super().apply(learning_rate)

  class StampedMasks:
    def apply(self, learning_rate):
      stamps.stamp('masks')
      masks.apply(learning_rate)

  saved, seen = {}, []

  def event(name):
    def action(done, means):
      stamps.stamp(name)
      if name == 'structure':  # Cuts a column; those that follow see it gone.
        keep = np.ones((NB_INPUTS, NB_OUTPUTS), np.float32)
        keep[:, : done // 2] = 0
        masks.masks[0].assign(keep)
        masks.apply()
      saved.setdefault(name, []).append(problem.weights.numpy())
      if name == 'checkpoint':
        seen.append(stamps.last())
      assert 'loss' in means

    return Event(action, every=2)

  optimizer = StampedSGD(RATE, jit_compile=False)
  optimizer.stamps = stamps
  step = loop.TrainStep(
    StampedObjective(stamps, problem.weights, problem.bias),
    [problem.weights, problem.bias],
    optimizer,
    penalties=[StampedPenalty(problem.weights, factor)],
    constraints=[StampedConstraint(problem.weights, factor), StampedMasks()],
  )
  events = [event(name) for name in ORDER[5:]]
  data = tf.data.Dataset.from_tensor_slices((problem.x, problem.y))
  loop.run(step, data, start=0, stop=NB_STEPS, phase='fit', events=events)

  # Five numbers for the first step of two, then five for the second and four for its events.
  firsts = [14 * number + 5 for number in range(NB_STEPS // 2)]
  assert [list(one.values()) for one in seen] == [list(range(k, k + 9)) for k in firsts]

  def cut(done, weights):
    return np.where(np.arange(NB_OUTPUTS) < done // 2, 0, weights)

  masked = [0]

  def constrained(weights, rate):
    shrunk = threshold_by_hand(weights, rate * factor)
    done, masked[0] = masked[0], masked[0] + 1
    return cut(done // 2 * 2, shrunk)

  expected = []
  ends = problem.by_hand(
    penalty=lambda w, b: factor * np.sign(w),
    constraint=constrained,
    after=lambda done, w: expected.append(cut(done, w)) or expected[-1],
  )
  close(problem, ends)
  for name in ORDER[5:]:
    for found, wanted in zip(saved[name], expected[1::2], strict=True):
      np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_learners_training_keeps_the_order(tmp_path):
  """What `Trainer.fit` adds: structure, summary, the user's callbacks, checkpoint."""
  happened = []

  class Note(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      happened.append('callbacks')

  class Tiny(Learner):
    name = 'tiny'
    Config = FullPrecConfig

    def phases(self):
      return [Phase('fit', self._fit)]

    def _fit(self):
      def structure(done, means):
        happened.append('structure')

      def metrics():
        happened.append('summary')
        return {'further': 0.5}

      hooks = Hooks(events=[Event(structure, every=4)], metrics=metrics)
      optimizer = keras.optimizers.SGD(0.1, jit_compile=False)
      self.fit('fit', self.objective(), optimizer, nb_steps=12, hooks=hooks)

    def save(self, phase, step, optimizer=None):
      happened.append('checkpoint')
      super().save(phase, step, optimizer)

  rng = np.random.default_rng(0)
  data = rng.normal(size=(32, 4, 4, 1)).astype(np.float32), np.arange(32, dtype=np.int32) % 3
  layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
  helper = ModelHelper.from_model(
    keras.Sequential(layers, name='net'), data, data, callbacks=[Note()]
  )
  learner = Tiny(
    helper,
    run=RunConfig(run_dir=str(tmp_path), summ_step=4, save_step=4),
    training=TrainConfig(batch_size=8),
  )
  learner.run_phases()
  # Three times four steps, each an epoch; and a last checkpoint at the end of the phase.
  assert happened == ['structure', 'summary', 'callbacks', 'checkpoint'] * 3 + ['checkpoint']
  lines = (tmp_path / 'logs' / 'tiny' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['further'] for line in lines] == [0.5] * 3
