"""Learns for each weight of a layer whether to round it up or down (Nagel et al. 2020).

"Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv:2004.10568). With weights w on a
grid of step s, h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1) says how far a weight is rounded up:

  w_q = s clip(floor(w / s) + h(v), -127, 127),
  minimise ||Y - X_q W_q||^2 / N + lambda sum(1 - |2 h - 1|^beta),  beta falling from 20 to 2,

with Y the float layer's outputs and X_q the inputs that the quantised network before it gives.

Deviations. The squared error is divided by N, what rounding at random would leave of it, so that one
lambda suits all layers; the paper takes it as it is. It is computed from the moments X_q^T X_q and
X_q^T Y over all samples rather than from batches (one layer takes a second), without the layer's
activation. An output channel keeps the rounding to the nearest where that fits no worse.
"""

from __future__ import annotations

import dataclasses

import numpy as np

_STEPS, _LEAST_STEPS, _BUDGET = 600, 60, 2e11  # Steps of Adam; multiply-adds of one layer.
_AT_ONCE = 1 << 22  # Weights, of which about ten copies are held.
_RATE, _WEIGHT, _WARM_UP = 0.02, 0.01, 0.2
_HIGH, _LOW = 20.0, 2.0
_MOST = 127


@dataclasses.dataclass(frozen=True)
class Squares:
  """X^T X / samples of each group, or X alone where that is smaller, as in a dense layer.

  Attributes:
    values: X^T X / samples, float [groups, values, values], or X / sqrt(samples), float [groups,
      samples, values].
    factored: whether it is X.
  """

  values: np.ndarray
  factored: bool = False

  def times(self, weights: np.ndarray) -> np.ndarray:
    """X^T X weights / samples, [groups, values, outputs]."""
    if not self.factored:
      return self.values @ weights
    return self.values.swapaxes(1, 2) @ (self.values @ weights)

  def power(self) -> np.ndarray:
    """Trace of X^T X / samples, [groups]."""
    if self.factored:
      return np.sum(np.square(self.values), axis=(1, 2))
    return np.trace(self.values, axis1=1, axis2=2)

  def single(self) -> Squares:
    """The same in float32."""
    return Squares(self.values.astype(np.float32, copy=False), self.factored)

  @property
  def rows(self) -> int:
    """Multiply-adds of a weight in `times`."""
    return self.values.shape[1] * (2 if self.factored else 1)


def squares_of(inputs: np.ndarray) -> Squares:
  """X^T X / samples of inputs [samples, groups, values]."""
  nb_samples, _, nb_values = inputs.shape
  groups = inputs.swapaxes(0, 1)
  if 2 * nb_samples < nb_values:
    return Squares(groups / np.sqrt(nb_samples, dtype=inputs.dtype), True)
  return Squares(groups.swapaxes(1, 2) @ groups / nb_samples)


def adaptive_rounding(
  weights: np.ndarray, step: np.ndarray, squares: Squares, products: np.ndarray
) -> np.ndarray:
  """Integers of a layer's weights; few output channels at a time, which are independent.

  Args:
    weights: float [groups, values, outputs].
    step: of the grid, float, broadcasts to the weights.
    squares: X_q^T X_q / samples.
    products: X_q^T Y / samples, float [groups, values, outputs].

  Returns:
    int8, shaped as the weights, within -127 to 127; each is the weight's floor or ceiling in steps.
  """
  steps = int(np.clip(_BUDGET / (weights.size * squares.rows), _LEAST_STEPS, _STEPS))
  step = np.broadcast_to(step, (len(weights), 1, weights.shape[2]))
  most = max(_AT_ONCE * weights.shape[2] // weights.size, 1)
  found = np.empty(weights.shape, np.int8)
  for start in range(0, weights.shape[2], most):
    some = np.s_[:, :, start : start + most]
    found[some] = _rounded(weights[some], step[some], squares, products[some], steps)
  return found


def _rounded(
  weights: np.ndarray, step: np.ndarray, squares: Squares, products: np.ndarray, steps: int
) -> np.ndarray:
  places = np.asarray(weights, np.float64) / step
  nearest = np.clip(np.rint(places), -_MOST, _MOST)
  floor = np.floor(places)
  up = _learned(places - floor, floor, step, squares, products, steps)
  found = np.clip(floor + up, -_MOST, _MOST)
  before = _errors(nearest * step, squares, products)
  after = _errors(found * step, squares, products)
  return np.where(after < before, found, nearest).astype(np.int8)


def _errors(weights: np.ndarray, squares: Squares, products: np.ndarray) -> np.ndarray:
  """Squared error of each output except for a constant, [groups, 1, outputs]."""
  return np.sum(weights * (squares.times(weights) - 2 * products), axis=1, keepdims=True)


def _learned(
  rest: np.ndarray,
  floor: np.ndarray,
  step: np.ndarray,
  squares: Squares,
  products: np.ndarray,
  steps: int,
) -> np.ndarray:
  """0 or 1 for each weight: whether it is rounded up."""
  single = np.float32
  base, step = floor.astype(single), np.asarray(step, single)
  squares, products = squares.single(), products.astype(single)
  # Where that is nearly nothing, the outputs' power counts.
  start = (floor + rest) * step
  power = np.maximum(np.sum(start * squares.times(start), axis=1, keepdims=True), 1e-12)
  noise = np.maximum(_rounding_noise(step, squares), 1e-12 * power)
  inside = np.clip((rest + 0.1) / 1.2, 1e-4, 1 - 1e-4)
  v = np.log(inside / (1 - inside)).astype(single)
  mean, spread = np.zeros_like(v), np.zeros_like(v)
  for number in range(1, steps + 1):
    sigmoid = 1 / (1 + np.exp(-v))
    h = np.clip(1.2 * sigmoid - 0.1, 0, 1)
    slope = np.where((h > 0) & (h < 1), 1.2 * sigmoid * (1 - sigmoid), 0)
    now = np.clip(base + h, -_MOST, _MOST) * step
    gradient = 2 * (squares.times(now) - products) * step / noise
    done = number / steps
    if done > _WARM_UP:
      left = (1 - done) / (1 - _WARM_UP)
      beta = _LOW + (_HIGH - _LOW) * left
      towards = 2 * h - 1
      gradient -= _WEIGHT * 2 * beta * np.sign(towards) * np.abs(towards) ** (beta - 1)
    gradient *= slope
    mean = 0.9 * mean + 0.1 * gradient
    spread = 0.999 * spread + 0.001 * gradient**2
    v -= (
      _RATE * (mean / (1 - 0.9**number)) / (np.sqrt(spread / (1 - 0.999**number)) + 1e-8)
    ).astype(single)
  return (1.2 / (1 + np.exp(-v)) - 0.1 >= 0.5).astype(np.float64)


def _rounding_noise(step: np.ndarray, squares: Squares) -> np.ndarray:
  """The squared error that rounding at random would leave, for each output: step^2 / 12 a weight."""
  return step**2 / 12 * squares.power()[:, None, None]
