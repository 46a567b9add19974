"""Operations of TensorFlow in a tf_keras model as operations of keras.ops: the table."""

from __future__ import annotations

from keras import activations, ops

from secateurs.utils.keras3 import operations_back as steps
from secateurs.utils.keras3.operations_back import Operation

_NAMES = (
  'abs ceil cos cosh erf exp expm1 floor log log1p log_sigmoid logical_not negative reciprocal round '
  'rsqrt sigmoid sign sin sinh softplus softsign sqrt square tan tanh'
)
_ARC = {
  f'a{name}': getattr(ops, f'arc{name}') for name in ('cos', 'cosh', 'sin', 'sinh', 'tan', 'tanh')
}
_UNARY = {name: getattr(ops, name) for name in _NAMES.split()} | _ARC
_BINARY = {
  'add': ops.add, 'atan2': ops.arctan2, 'divide': ops.divide, 'divide_no_nan': ops.divide_no_nan,
  'equal': ops.equal, 'floordiv': ops.floor_divide, 'floormod': ops.mod, 'greater': ops.greater,
  'greater_equal': ops.greater_equal, 'less': ops.less, 'less_equal': ops.less_equal,
  'logical_and': ops.logical_and, 'logical_or': ops.logical_or, 'maximum': ops.maximum,
  'minimum': ops.minimum, 'mod': ops.mod, 'multiply': ops.multiply, 'not_equal': ops.not_equal,
  'pow': ops.power, 'squared_difference': lambda x, y: ops.square(ops.subtract(x, y)),
  'subtract': ops.subtract, 'truediv': ops.true_divide,
}  # fmt: skip
_REDUCTIONS = {
  'all': ops.all, 'any': ops.any, 'logsumexp': ops.logsumexp, 'max': ops.max, 'mean': ops.mean,
  'min': ops.min, 'prod': ops.prod, 'std': ops.std, 'sum': ops.sum, 'variance': ops.var,
}  # fmt: skip
_ACTIVATIONS = 'elu gelu linear relu selu sigmoid softplus softsign swish tanh softmax'
OPERATIONS: dict[str, Operation] = {
  **{f'math.{name}': steps.unary(function) for name, function in _UNARY.items()},
  **{f'math.{name}': steps.binary(function) for name, function in _BINARY.items()},
  **{f'math.reduce_{name}': steps.reduce(function) for name, function in _REDUCTIONS.items()},
  **{
    f'keras.activations.{name}': steps.unary(activations.get(name)) for name in _ACTIVATIONS.split()
  },
  'keras.activations.mish': steps.unary(lambda x: x * ops.tanh(ops.softplus(x))),
  'keras.activations.exponential': steps.unary(ops.exp),
  'keras.activations.hard_sigmoid': steps.unary(steps.hard_sigmoid_of_tf_keras),
  '__operators__.add': steps.binary(ops.add),
  '__operators__.truediv': steps.binary(ops.true_divide),
  'realdiv': steps.binary(ops.true_divide),
  '__operators__.getitem': steps.getitem,
  'nn.bias_add': lambda value, bias, data_format=None, name=None: ops.add(value, bias),
  **{
    f'nn.{name}': steps.unary(getattr(ops, name))
    for name in ['elu', 'relu', 'relu6', 'selu', 'sigmoid', 'silu', 'softplus', 'softsign', 'tanh']
  },
  'nn.swish': steps.unary(ops.silu),
  'nn.leaky_relu': steps.leaky,
  'nn.gelu': steps.gelu,
  'nn.softmax': steps.softmax(ops.softmax),
  'math.softmax': steps.softmax(ops.softmax),
  'nn.log_softmax': steps.softmax(ops.log_softmax),
  'math.log_softmax': steps.softmax(ops.log_softmax),
  'nn.moments': steps.moments,
  'nn.depth_to_space': lambda input, block_size, **_: ops.depth_to_space(input, block_size),
  'nn.space_to_depth': lambda input, block_size, **_: ops.space_to_depth(input, block_size),
  'nn.max_pool': steps.pool(ops.max_pool),
  'nn.max_pool2d': steps.pool(ops.max_pool),
  'nn.avg_pool': steps.pool(ops.average_pool),
  'nn.avg_pool2d': steps.pool(ops.average_pool),
  'math.l2_normalize': steps.l2_normalize,
  'math.cumsum': lambda x, axis=0, **_: ops.cumsum(x, axis),
  'math.cumprod': lambda x, axis=0, **_: ops.cumprod(x, axis),
  'math.argmax': steps.argmax(ops.argmax),
  'math.argmin': steps.argmax(ops.argmin),
  'argmax': steps.argmax(ops.argmax),
  'argmin': steps.argmax(ops.argmin),
  'cast': steps.cast,
  'clip_by_value': steps.clip,
  'concat': steps.concat,
  'einsum': lambda equation, *xs, **_: ops.einsum(equation, *xs),
  'linalg.einsum': lambda equation, *xs, **_: ops.einsum(equation, *xs),
  'expand_dims': steps.expand,
  'gather': steps.gather,
  'identity': steps.unary(lambda x: ops.reshape(x, tuple(-1 if s is None else s for s in x.shape))),
  'image.resize': steps.resize,
  'image.extract_patches': steps.patches,
  'linalg.matmul': steps.matmul,
  'matmul': steps.matmul,
  'norm': lambda tensor, ord='euclidean', axis=None, keepdims=None, name=None: ops.norm(
    tensor, None if ord == 'euclidean' else ord, steps.axes(axis), bool(keepdims)
  ),
  'one_hot': steps.one_hot,
  'ones_like': steps.like(ops.ones_like),
  'pad': steps.pad,
  'repeat': lambda input, repeats, axis=None, name=None: ops.repeat(input, int(repeats), axis),
  'reshape': steps.reshape,
  'reverse': lambda tensor, axis, name=None: ops.flip(tensor, steps.axes(axis)),
  'roll': lambda input, shift, axis, name=None: ops.roll(
    input, steps.axes(shift), steps.axes(axis)
  ),
  'slice': steps.window,
  'split': steps.split,
  'squeeze': steps.squeeze,
  'stack': steps.stack,
  'stop_gradient': steps.unary(ops.stop_gradient),
  'tensordot': lambda a, b, axes, name=None: ops.tensordot(a, b, steps.numbers(axes)),
  'tile': lambda input, multiples, name=None: ops.tile(input, tuple(steps.numbers(multiples))),
  'transpose': steps.transpose,
  'unstack': steps.unstack,
  'where': lambda condition, x, y, name=None: ops.where(condition, x, y),
  'zeros_like': steps.like(ops.zeros_like),
}
"""By the public name of the operation in TensorFlow, without the API's version."""
