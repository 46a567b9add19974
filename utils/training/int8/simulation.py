"""The layer that runs a network in simulated 8 bits, and the twin of a network that is made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.int8.kinds import Rule
from secateurs.utils.training.int8.plan import Constants, Plan
from secateurs.utils.training.models.rounded_activations import Rounding

_BITS = 8
_LEAST_RANGE = 1e-5


class Simulation(keras.layers.Layer):
  """Runs a plan: kernels and constants on their grids, results rounded within their ranges.

  Attributes:
    source: the float network whose variables are trained.
    plan: of its operations.
  """

  def __init__(self, source: keras.Model, plan: Plan, **kwargs: Any) -> None:
    super().__init__(dtype='float32', **kwargs)
    self.source, self.plan = source, plan
    self._constants: Callable[[], Constants] = plan.constants
    self._is_baked = False
    names = [rule.name for rule in plan.rules.values() if rule.name]
    self._roundings = {name: Rounding(_BITS, name=f'{name}_range') for name in names}

  def build(self, shape: Any) -> None:
    """Makes the ranges."""
    for name, rounding in self._roundings.items():
      with tf.name_scope(f'{name}_range'):
        rounding.build(())
    super().build(shape)

  @tf.autograph.experimental.do_not_convert
  def call(self, inputs: Any, training: bool = False) -> Any:
    """The outputs of the network, in a list where there are several."""

    def rounded(number: int, rule: Rule, tensor: tf.Tensor) -> tf.Tensor:
      del number
      return self._rounded(rule, tensor, training)

    # The converter makes whole numbers of a constant bias by itself.
    step_of = None if self._is_baked else self._step_of
    outputs = self.plan.run(
      tf.nest.flatten(inputs), self._constants(), rounded, training=bool(training), step_of=step_of
    )
    return outputs[0] if len(outputs) == 1 else outputs

  def _rounded(self, rule: Rule, tensor: tf.Tensor, training: bool) -> tf.Tensor:
    if rule.like is not None:
      return self._rounded(self.plan.rules[rule.like], tensor, False)
    if rule.fixed is not None:
      return tf.quantization.fake_quant_with_min_max_args(tensor, *rule.fixed)
    return self._roundings[rule.name](tensor, training=training and rule.moves)

  def _step_of(self, rule: Rule) -> tf.Tensor:
    if rule.like is not None:
      return self._step_of(self.plan.rules[rule.like])
    if rule.fixed is not None:
      low, high = rule.fixed
    else:
      rounding = self._roundings[rule.name]
      low, high = rounding.low, rounding.high
    return tf.convert_to_tensor((high - low) / (2**_BITS - 1))

  def observe(self, inputs: Any, ends: dict[str, list[float]]) -> None:
    """Widens ranges by name to what the float network has for some inputs."""

    def seen(number: int, rule: Rule, tensor: tf.Tensor) -> tf.Tensor:
      del number
      if rule.name:
        low, high = ends.setdefault(rule.name, [0.0, 0.0])
        ends[rule.name] = [
          min(low, float(tf.reduce_min(tensor))),
          max(high, float(tf.reduce_max(tensor))),
        ]
      return tensor

    tensors = [
      tf.cast(one, self.plan.program.dtypes[number])
      for one, number in zip(tf.nest.flatten(inputs), self.plan.program.inputs, strict=True)
    ]
    self.plan.run(tensors, self.plan.constants(rounded=False), seen)

  def set_ranges(self, ends: dict[str, list[float]]) -> None:
    """Sets ranges by name to (low, high)."""
    for name, (low, high) in ends.items():
      self._roundings[name].low.assign(low)
      self._roundings[name].high.assign(max(high, low + _LEAST_RANGE))

  @contextlib.contextmanager
  def baked(self) -> Iterator[None]:
    """Has kernels and constants computed once, and be constants of what is traced in the block."""
    held = {
      key: None if value is None else np.array(value)
      for key, value in self.plan.constants().items()
    }
    for (kind, _), value in held.items():
      if kind == 'offset' and value is not None:
        _tell_apart(value)

    def constants() -> Constants:
      return {key: None if value is None else tf.constant(value) for key, value in held.items()}

    self._constants, self._is_baked = constants, True
    try:
      yield
    finally:
      self._constants, self._is_baked = self.plan.constants, False


def _tell_apart(bias: np.ndarray) -> None:
  """Moves the first value of a bias by the least there is where all are the same number.

  For one number the converter of TensorFlow Lite 2.21 takes the first channel's step in all channels.
  """
  if bias.size > 1 and not np.ptp(bias):
    bias[0] = np.nextafter(bias[0], np.float32(np.inf))


def simulations(model: keras.Model) -> list[Simulation]:
  """The simulating layers of a twin, or of a model that ends in more than a twin does."""
  return [layer for layer in model.layers if isinstance(layer, Simulation)]


@contextlib.contextmanager
def deployed(model: keras.Model) -> Iterator[None]:
  """Has a twin traced as an integer file needs it: with rounded kernels as constants."""
  with contextlib.ExitStack() as stack:
    for layer in simulations(model):
      stack.enter_context(layer.baked())
    yield


def simulated(model: keras.Model) -> keras.Model:
  """The float network that a twin simulates, or the network itself."""
  found = simulations(model)
  return found[0].source if found else model
