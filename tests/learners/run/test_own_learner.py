"""All places where a learner can hook into training, by a small learner with gates.

The training network multiplies channels with gates and differs from the saved one; a penalty pulls the
gates down, a proximal step makes small ones exactly zero, and a structural event fixes masks.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import _LEARNERS, register
from secateurs.learners.run.compression import CompressionLearner
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.state import LearnerState
from secateurs.utils.config import Config, option
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.events import Event
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.masks import Masks


@dataclasses.dataclass(frozen=True)
class GateConfig(Config):
  """Flags of a learner of this test."""

  prefix = 'gt_'
  save_path: str = option('./models_gt/model.ckpt', 'Checkpoints.', affects_result=False)
  save_path_eval: str = option('./models_gt_eval/model', 'Exported model.', affects_result=False)
  strength: float = option(0.2, 'Of the penalty.', low=0.0)


@dataclasses.dataclass
class GateState(LearnerState):
  """What the learner remembers.

  Attributes:
    closed: numbers of closed gates at each event.
  """

  closed: list[int] = dataclasses.field(default_factory=list)


class Shrinking:
  """A proximal step of |gates|: towards zero by rate * strength, not beyond."""

  def __init__(self, gates, strength):
    self.gates, self.strength = gates, strength

  def apply(self, learning_rate):
    size = tf.maximum(tf.abs(self.gates) - learning_rate * self.strength, 0.0)
    self.gates.assign(tf.sign(self.gates) * size)


class GateLearner(CompressionLearner):
  name = 'gated-for-a-test'
  Config, State = GateConfig, GateState

  def compression_phases(self):
    return [Phase('gate', self._gate), Phase('fold', self._fold)]

  def prepare(self):
    self.gates = tf.Variable(tf.constant([1.0, 1.0, 1.0, 1.0, 0.02, -0.02]), name='gates')
    self.masks = Masks([self.gates])

  def extra_variables(self):
    return {'gates': self.gates, 'mask': self.masks.masks[0]}

  def gated(self):
    """The training network: the saved one with gates after its first convolution, weights shared."""
    gates = self.gates

    class Gate(keras.layers.Layer):
      def call(self, x):
        return x * gates

    def gate(x):
      return Gate()(x)

    x = inputs = keras.Input(self.model.input_shape[1:])
    for layer in self.model.layers[1:]:
      x = layer(x)
      x = gate(x) if layer.name == 'conv1' else x
    return keras.Model(inputs, x)

  def _gate(self):
    def penalty(variables):
      return [tf.sign(v) * self.config.strength if v is self.gates else None for v in variables]

    def close(step, means):
      del means
      self.masks.masks[0].assign(tf.cast(tf.abs(self.gates) > 1e-3, tf.float32))
      self.masks.apply()
      self.state.closed.append(int((self.masks.masks[0].numpy() == 0).sum()))

    network, nb_steps = self.gated(), self.rates.fine_tune_steps()
    self.fit(
      'gate',
      self.objective(network),
      self.rates.sgd(0.01),
      nb_steps=nb_steps,
      network=network,
      variables=[*self.model.trainable_variables, self.gates],
      hooks=Hooks(
        penalties=[penalty],
        constraints=[Shrinking(self.gates, 0.3), self.masks],
        events=[Event(close, every=4)],
        metrics=lambda: {'open': float(tf.math.count_nonzero(self.gates))},
      ),
    )

  def _fold(self):
    layer = self.model.get_layer('conv1')
    layer.kernel.assign(layer.kernel * self.gates)
    layer.bias.assign(layer.bias * self.gates)


@pytest.fixture
def gated_learner():
  register(GateLearner)
  yield GateLearner.name
  del _LEARNERS[GateLearner.name]


def make_gated(make, baseline, folder):
  return make(
    GateLearner.name,
    folder,
    run={'warm_start_path': baseline, 'save_step': 3},
    training={'nb_epochs_ft': 0.6},
  )


def test_gates_end_as_exact_zeros_and_a_killed_run_ends_alike(
  gated_learner, make, baseline, monkeypatch
):
  whole = make_gated(make, baseline, 'whole')
  whole.train()
  gates = whole.gates.numpy()
  assert whole.state.closed
  assert (gates == 0).sum() == whole.state.closed[-1] > 0
  kernel = whole.model.get_layer('conv1').kernel.numpy()
  assert not kernel[..., gates == 0].any()

  run, seen = loop.TrainStep.run, []

  def die(self, batches, nb_steps):
    seen.append(nb_steps)
    if sum(seen) > 8:
      raise KeyboardInterrupt
    return run(self, batches, nb_steps)

  with monkeypatch.context() as patch:
    patch.setattr(loop.TrainStep, 'run', die)
    with pytest.raises(KeyboardInterrupt):
      make_gated(make, baseline, 'killed').train()
  resumed = make_gated(make, baseline, 'killed')
  resumed.train()
  np.testing.assert_array_equal(resumed.gates.numpy(), gates)
  for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)
