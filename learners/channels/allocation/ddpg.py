"""A small agent with one continuous action: deep deterministic policy gradient, in TensorFlow.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning" (arXiv:1509.02971), with
the constants that He et al. 2018 (AMC, arXiv:1802.03494) give it: an actor and a critic of two hidden
layers, slow copies of both for the targets, and rewards less their moving mean.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers
_LAST = 3e-3  # Range of the last layers' first weights.
_MOVING = 0.5  # Of the mean reward.


@dataclasses.dataclass(frozen=True)
class Constants:
  """Of the agent.

  Attributes:
    hidden: units of each hidden layer.
    rate_actor: Adam's learning rate of the actor.
    rate_critic: of the critic.
    tau: how far the slow copies go towards the networks in each update.
    batch: transitions of an update.
    memory: transitions that are remembered; the oldest go.
  """

  hidden: int = 300
  rate_actor: float = 1e-4
  rate_critic: float = 1e-3
  tau: float = 0.01
  batch: int = 64
  memory: int = 1000


class Agent:
  """Chooses an action in [0, 1] for a state, and learns from transitions."""

  def __init__(self, nb_features: int, constants: Constants, seed: int) -> None:
    """Starts with an actor that says about one half everywhere."""
    self._constants, self._rng = constants, np.random.default_rng([seed, 2])
    self._actor, self._slow_actor = (_actor(nb_features, constants.hidden, seed) for _ in range(2))
    self._critic, self._slow_critic = (
      _critic(nb_features, constants.hidden, seed) for _ in range(2)
    )
    adam = keras.optimizers.Adam
    self._optimizers = (
      adam(constants.rate_actor, jit_compile=False),
      adam(constants.rate_critic, jit_compile=False),
    )
    self._memory: list[tuple[np.ndarray, float, float, np.ndarray, float]] = []
    self._mean: float | None = None
    self._act = tf.function(self._actor)
    self._learn = tf.function(self._step)

  def action(self, state: np.ndarray) -> float:
    """What the actor says for a state, float32 [features]."""
    return float(self._act(tf.constant(state[None]))[0, 0])

  def remember(
    self, state: np.ndarray, action: float, reward: float, after: np.ndarray, last: bool
  ) -> None:
    """Keeps a transition; `last`: nothing follows it."""
    self._memory.append((state, action, reward, after, float(last)))
    del self._memory[: -self._constants.memory]

  def update(self) -> None:
    """One step on a batch of what is remembered, if there is one."""
    size = self._constants.batch
    if not self._memory:
      return
    places = self._rng.integers(0, len(self._memory), size)
    states, actions, rewards, after, last = (
      np.array(part, np.float32) for part in zip(*(self._memory[i] for i in places), strict=True)
    )
    mean = float(rewards.mean())
    self._mean = mean if self._mean is None else self._mean + _MOVING * (mean - self._mean)
    columns = (actions, rewards - self._mean, last)
    actions, rewards, last = (tf.constant(column[:, None], tf.float32) for column in columns)
    self._learn(tf.constant(states), actions, rewards, tf.constant(after), last)

  def _step(
    self,
    states: tf.Tensor,
    actions: tf.Tensor,
    rewards: tf.Tensor,
    after: tf.Tensor,
    last: tf.Tensor,
  ) -> None:
    following = self._slow_critic([after, self._slow_actor(after)])
    targets = rewards + (1 - last) * following
    with tf.GradientTape() as tape:
      error = tf.reduce_mean(tf.square(self._critic([states, actions]) - targets))
    _apply(self._optimizers[1], tape, error, self._critic)
    with tf.GradientTape() as tape:
      error = -tf.reduce_mean(self._critic([states, self._actor(states)]))
    _apply(self._optimizers[0], tape, error, self._actor)
    tau = self._constants.tau
    pairs = ((self._slow_actor, self._actor), (self._slow_critic, self._critic))
    for slow, fast in pairs:
      for one, other in zip(slow.trainable_variables, fast.trainable_variables, strict=True):
        one.assign((1 - tau) * one + tau * other)


def _apply(
  optimizer: keras.optimizers.Optimizer, tape: tf.GradientTape, error: tf.Tensor, net: keras.Model
) -> None:
  variables = net.trainable_variables
  optimizer.apply_gradients(zip(tape.gradient(error, variables), variables, strict=True))


def _actor(nb_features: int, hidden: int, seed: int) -> keras.Model:
  x = inputs = L.Input((nb_features,))
  for number in range(2):
    x = _dense(hidden, seed + number, 'relu')(x)
  return keras.Model(inputs, _last('sigmoid', seed + 2)(x))


def _critic(nb_features: int, hidden: int, seed: int) -> keras.Model:
  state, action = L.Input((nb_features,)), L.Input((1,))
  x = L.ReLU()(L.Add()([_dense(hidden, seed + 3)(state), _dense(hidden, seed + 4)(action)]))
  x = _dense(hidden, seed + 5, 'relu')(x)
  return keras.Model([state, action], _last(None, seed + 6)(x))


def _dense(units: int, seed: int, activation: str | None = None) -> L.Dense:
  return L.Dense(units, activation, kernel_initializer=keras.initializers.GlorotUniform(seed))


def _last(activation: str | None, seed: int) -> L.Dense:
  start = keras.initializers.RandomUniform(-_LAST, _LAST, seed)
  return L.Dense(1, activation, kernel_initializer=start)
