"""Operations of keras.ops as TensorFlow operations.

Each entry takes the operation (its settings are attributes) and its arguments, tensors among them.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from secateurs.utils.keras3 import activations
from secateurs.utils.keras3 import operations_steps as steps
from secateurs.utils.keras3.operations_images import IMAGES
from secateurs.utils.keras3.operations_steps import Operation


def _activation(name: str) -> Operation:
  function = activations.FUNCTIONS[name]
  known = ('negative_slope', 'alpha', 'axis', 'threshold', 'default_value', 'b')

  def run(op: Any, x: Any) -> Any:
    return function(x, **{key: getattr(op, key) for key in known if hasattr(op, key)})

  return run


_NAMES = {  # Operations without settings.
  'Abs Absolute Fabs': tf.math.abs,
  'Add': tf.math.add,
  'Arccos': tf.math.acos,
  'Arccosh': tf.math.acosh,
  'Arcsin': tf.math.asin,
  'Arcsinh': tf.math.asinh,
  'Arctan': tf.math.atan,
  'Arctan2': tf.math.atan2,
  'Arctanh': tf.math.atanh,
  'Ceil': tf.math.ceil,
  'Copy': tf.identity,
  'Cos': tf.math.cos,
  'Cosh': tf.math.cosh,
  'Divide TrueDivide': tf.math.divide,
  'DivideNoNan': tf.math.divide_no_nan,
  'Equal': tf.math.equal,
  'Erf': tf.math.erf,
  'Erfc': tf.math.erfc,
  'Exp': tf.math.exp,
  'Expm1': tf.math.expm1,
  'Floor': tf.math.floor,
  'FloorDivide': tf.math.floordiv,
  'Greater': tf.math.greater,
  'GreaterEqual': tf.math.greater_equal,
  'Isfinite': tf.math.is_finite,
  'Isnan': tf.math.is_nan,
  'Less': tf.math.less,
  'LessEqual': tf.math.less_equal,
  'Log': tf.math.log,
  'Log1p': tf.math.log1p,
  'LogicalAnd': tf.math.logical_and,
  'LogicalNot': tf.math.logical_not,
  'LogicalOr': tf.math.logical_or,
  'Matmul': tf.linalg.matmul,
  'Maximum Fmax': tf.math.maximum,
  'Minimum Fmin': tf.math.minimum,
  'Mod': tf.math.floormod,
  'Multiply': tf.math.multiply,
  'Negative': tf.math.negative,
  'NotEqual': tf.math.not_equal,
  'Power': tf.math.pow,
  'Reciprocal': tf.math.reciprocal,
  'Relu': tf.nn.relu,
  'Rsqrt': tf.math.rsqrt,
  'Selu': tf.nn.selu,
  'Sigmoid': tf.math.sigmoid,
  'Sign': tf.math.sign,
  'Silu': tf.nn.silu,
  'Sin': tf.math.sin,
  'Sinh': tf.math.sinh,
  'Softplus': tf.math.softplus,
  'Softsign': tf.math.softsign,
  'Sqrt': tf.math.sqrt,
  'Square': tf.math.square,
  'StopGradient': tf.stop_gradient,
  'Subtract': tf.math.subtract,
  'Tan': tf.math.tan,
  'Tanh': tf.math.tanh,
  'Where': tf.where,
}
_WITH_SETTINGS: dict[str, Operation] = {
  'All': steps.reduce(tf.math.reduce_all),
  'Any': steps.reduce(tf.math.reduce_any),
  'Amax': steps.reduce(tf.math.reduce_max),
  'Amin': steps.reduce(tf.math.reduce_min),
  'Max': steps.reduce(tf.math.reduce_max),
  'Min': steps.reduce(tf.math.reduce_min),
  'Mean': steps.reduce(tf.math.reduce_mean),
  'Prod': steps.reduce(tf.math.reduce_prod),
  'Std': steps.reduce(tf.math.reduce_std),
  'Sum': steps.reduce(tf.math.reduce_sum),
  'Var': steps.reduce(tf.math.reduce_variance),
  'Logsumexp': steps.reduce(tf.math.reduce_logsumexp),
  'Argmax': steps.place(tf.argmax),
  'Argmin': steps.place(tf.argmin),
  'BroadcastTo': steps.broadcast,
  'Cast': lambda op, x: tf.cast(x, op.dtype),
  'Clip': lambda op, x: tf.clip_by_value(x, op.x_min, op.x_max),
  'Concatenate': lambda op, xs: tf.concat(list(xs), op.axis),
  'ConvertToTensor': lambda op, x: tf.cast(x, op.dtype) if op.dtype else tf.identity(x),
  'Cumsum': lambda op, x: tf.math.cumsum(x, op.axis),
  'Cumprod': lambda op, x: tf.math.cumprod(x, op.axis),
  'DepthToSpace': lambda op, x: tf.nn.depth_to_space(x, op.block_size),
  'Dot': steps.dot,
  'DotProductAttention': steps.attention,
  'Einsum': lambda op, *xs: tf.einsum(op.subscripts, *xs),
  'Elu': lambda op, x: (
    tf.nn.elu(x) if op.alpha == 1 else tf.where(x > 0, x, op.alpha * tf.nn.elu(x))
  ),
  'ExpandDims': steps.expand,
  'Flip': steps.flip,
  'Gelu': lambda op, x: tf.nn.gelu(x, approximate=bool(op.approximate)),
  'GetItem': lambda op, x, key: x[key],
  'LayerNorm': steps.layer_norm,
  'LogSoftmax': lambda op, x: tf.nn.log_softmax(x, op.axis),
  'Moments': lambda op, x: tf.nn.moments(x, steps.axes(op.axes), keepdims=op.keepdims),
  'Moveaxis': steps.moveaxis,
  'Norm': steps.norm,
  'Normalize': steps.normalize,
  'OneHot': lambda op, x: tf.one_hot(x, op.num_classes, axis=op.axis, dtype=op.dtype or tf.float32),
  'OnesLike': lambda op, x: tf.ones_like(x, dtype=op.dtype),
  'Pad': steps.pad,
  'Ravel': lambda op, x: tf.reshape(x, [-1]),
  'ReLU': steps.relu,
  'Repeat': lambda op, x: tf.repeat(x, op.repeats, op.axis),
  'Reshape': steps.reshaped,
  'RMSNorm': lambda op, x, scale=None: steps.rms_norm(x, scale, op.axis, op.epsilon or 1e-7),
  'Roll': lambda op, x: tf.roll(x, op.shift, op.axis),
  'Round': lambda op, x: tf.math.round(x),
  'Softmax': lambda op, x: tf.nn.softmax(x, op.axis),
  'SpaceToDepth': lambda op, x: tf.nn.space_to_depth(x, op.block_size),
  'Split': steps.split,
  'Squeeze': lambda op, x: tf.squeeze(x, steps.axes(op.axis)),
  'Stack': lambda op, xs: tf.stack(list(xs), op.axis),
  'Swapaxes': steps.swapaxes,
  'Take': steps.take,
  'Tile': lambda op, x: tf.tile(x, list(op.repeats)),
  'Transpose': lambda op, x: tf.transpose(x, steps.axes(op.axes)),
  'Unstack': lambda op, x: tf.unstack(x, op.num, op.axis),
  'ZerosLike': lambda op, x: tf.zeros_like(x, dtype=op.dtype),
}
_ACTIVATIONS = {
  'Celu': 'celu',
  'Glu': 'glu',
  'HardShrink': 'hard_shrink',
  'HardSigmoid': 'hard_sigmoid',
  'HardSilu': 'hard_silu',
  'HardTanh': 'hard_tanh',
  'LeakyRelu': 'leaky_relu',
  'LogSigmoid': 'log_sigmoid',
  'Relu6': 'relu6',
  'SoftShrink': 'soft_shrink',
  'SparsePlus': 'sparse_plus',
  'SparseSigmoid': 'sparse_sigmoid',
  'Squareplus': 'squareplus',
  'TanhShrink': 'tanh_shrink',
  'Threshold': 'threshold',
}
OPERATIONS: dict[str, Operation] = {
  **{name: steps.plain(function) for names, function in _NAMES.items() for name in names.split()},
  **_WITH_SETTINGS,
  **{name: _activation(function) for name, function in _ACTIVATIONS.items()},
  **IMAGES,
}
"""By the class of the operation in Keras 3."""

ARITHMETIC = (
  'Add Subtract Multiply Divide TrueDivide DivideNoNan Maximum Minimum Power Mod FloorDivide Matmul '
  'Dot Concatenate Stack Einsum Mean Std Var Sum Prod'
)
"""Those whose operands Keras 3 casts to the type of the result."""

COMPARISONS = ('Equal', 'NotEqual', 'Greater', 'GreaterEqual', 'Less', 'LessEqual')
"""Those whose operands Keras 3 casts to one type."""
