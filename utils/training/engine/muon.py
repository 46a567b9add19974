"""Muon: momentum whose step on the kernel of a two-dimensional convolution is made orthogonal."""

from __future__ import annotations

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.engine.masks import Masks

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NB_ITERATIONS = 5
_EPSILON = 1e-7


def orthogonalised(matrix: tf.Tensor) -> tf.Tensor:
  """Nearly U V^T of a matrix U S V^T: its singular values come to lie between about 0.5 and 1.2.

  Five iterations of X <- a X + b (X X^T) X + c (X X^T)^2 X from X = matrix / ||matrix||_F, whose a, b
  and c lift small singular values fast in place of converging (Jordan et al. 2024, "Muon: An
  optimizer for hidden layers in neural networks").

  Args:
    matrix: float [m, n].

  Returns:
    float [m, n]; zeros for a matrix of zeros.
  """
  a, b, c = _COEFFICIENTS
  wide = matrix.shape[0] < matrix.shape[1]
  x = tf.transpose(matrix) if wide else matrix  # The Gram matrix of the shorter side is smaller.
  x /= tf.norm(x) + _EPSILON
  for _ in range(_NB_ITERATIONS):
    gram = tf.matmul(x, x, transpose_a=True)
    x = a * x + tf.matmul(x, b * gram + c * tf.matmul(gram, gram))
  return tf.transpose(x) if wide else x


class Muon(keras.optimizers.SGD):
  """SGD with Nesterov's momentum, whose steps on convolutions' kernels are orthogonalised.

  With g the gradient, m <- momentum * m + g and u = g + momentum * m, a kernel W, seen as a matrix of
  [inputs of a position, outputs], steps by

    W <- W - rate * kernel_factor * ||W||_F * o / ||o||_F,    o = orthogonalised(u),

  so that all its directions move alike, however small their gradients are: what SGD brings about
  slowly. All other variables step as SGD does: normalisation, biases, dense and depthwise kernels,
  which have no directions to even out, and kernels of convolutions of one and three dimensions.

  Deviation: the published step has the norm sqrt(rank) times a shape factor; here it is a fraction of
  the kernel's own norm, so that one rate suits layers of any width and pruned ones, and no weight decay
  is needed to hold the norm. Pruned weights take no part: their gradients count as zero, and the length
  is that of the other weights' step (otherwise one twentieth of the weights would take little more than
  a fifth of it).
  """

  def __init__(
    self,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    kernel_factor: float,
    momentum: float = 0.9,
    masks: Masks | None = None,
    name: str = 'Muon',
  ) -> None:
    """`kernel_factor` times the learning rate is a kernel's relative step: ||dW|| / ||W||.

    `masks` hold which weights are pruned; they may change between steps.
    """
    super().__init__(learning_rate, momentum=momentum, nesterov=True, jit_compile=False, name=name)
    self.kernel_factor = kernel_factor
    self._masks = masks or Masks([])

  def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
    """Steps on one variable."""
    if not _is_matrix(variable):
      super().update_step(gradient, variable)
      return
    mask = self._masks.of(variable)
    if mask is not None:
      gradient *= mask
    momentum = self.momentums[self._index_dict[self._var_key(variable)]]
    momentum.assign(self.momentum * momentum + gradient)
    ahead = gradient + self.momentum * momentum
    step = tf.reshape(orthogonalised(tf.reshape(ahead, [-1, ahead.shape[-1]])), variable.shape)
    if mask is not None:
      step *= mask
    size = tf.norm(variable) / (tf.norm(step) + _EPSILON)
    rate = tf.cast(self.learning_rate, variable.dtype) * self.kernel_factor
    variable.assign_sub(rate * size * step)

  def get_config(self) -> dict:
    """Constructor arguments except for the masks, which belong to the run."""
    config = super().get_config()
    names = ('learning_rate', 'momentum', 'name')
    return {**{name: config[name] for name in names}, 'kernel_factor': self.kernel_factor}


def _is_matrix(variable: tf.Variable) -> bool:
  """Whether this is a convolution's kernel with several inputs and several outputs."""
  shape = variable.shape
  if 'depthwise' in variable.name:
    return False
  return shape.rank == 4 and shape[-1] > 1 and shape.num_elements() > shape[-1]
