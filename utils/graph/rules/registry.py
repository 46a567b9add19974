"""Which rule serves which layer class.

Only classes that are listed are understood: a subclass may do anything in its `call`, so it is
treated like any unknown layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.l2_norm import L2Norm
from secateurs.utils.graph.flat.selection import ChannelSelection
from secateurs.utils.graph.rules import (
  attention,
  cells,
  dot_attention,
  einsum_dense,
  elementwise,
  kernels,
  merges,
  norms,
  recurrent,
  scales,
  shapes,
  tokens,
  wrappers,
)
from secateurs.utils.graph.rules.base import Cut, Instead, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.operations.registry import OpRule, register_operation
from secateurs.utils.graph.rules.whole import Whole

_L = keras.layers


class Selection(Rule):
  """ChannelSelection, when a model is sliced a second time."""

  def trace(self, view: View) -> list[Channels]:
    """The chosen atoms."""
    axis = view.layer.axis % len(view.in_shapes[0])
    return [Channels(axis, view.on_axis(0, axis)[view.layer.indices])]

  def config(self, cut: Cut) -> dict[str, Any]:
    """The indices, counted in what is left."""
    place = np.cumsum(cut.ins[0]) - 1
    return {'indices': place[np.asarray(cut.layer.indices)[cut.outs[0]]].tolist()}

  def instead(self, cut: Cut) -> Instead | None:
    """Nothing, where all channels that are left pass in their order."""
    indices = self.config(cut)['indices']
    whole = indices == list(range(int(cut.ins[0].sum())))
    return (lambda tensor: tensor) if whole else None

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """The chosen constants."""
    indices = trace.call.layer.indices
    return [Constant(ins[0].value[indices], ins[0].spoiled[indices])]


def _sum(values: list[np.ndarray]) -> np.ndarray:
  return np.sum(values, axis=0)


_TABLE: list[tuple[Rule, tuple[type, ...]]] = [
  (kernels.Conv(), (_L.Conv1D, _L.Conv2D, _L.Conv3D)),
  (kernels.TransposedConv(), (_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose)),
  (kernels.SeparableConv(), (_L.SeparableConv1D, _L.SeparableConv2D)),
  (kernels.Depthwise(), (_L.DepthwiseConv1D, _L.DepthwiseConv2D)),
  (kernels.Dense(), (_L.Dense,)),
  (norms.LayerNorm(), (_L.LayerNormalization,)),
  (norms.UnitNorm(), (_L.UnitNormalization,)),
  (norms.L2Norm(), (L2Norm,)),
  (norms.GroupNorm(), (_L.GroupNormalization,)),
  (scales.PRelu(), (_L.PReLU,)),
  (einsum_dense.EinsumDense(), (_L.EinsumDense,)),
  (recurrent.Recurrent(), (_L.LSTM, _L.GRU, _L.SimpleRNN)),
  (recurrent.ConvRecurrent(), (_L.ConvLSTM1D, _L.ConvLSTM2D, _L.ConvLSTM3D)),
  (cells.CellRecurrent(), (_L.RNN,)),
  (recurrent.Bidirectional(), (_L.Bidirectional,)),
  (tokens.Embedding(), (_L.Embedding,)),
  (tokens.Masking(), (_L.Masking,)),
  (attention.HeadAttention(), (_L.MultiHeadAttention,)),
  (dot_attention.DotAttention(), (_L.Attention, _L.AdditiveAttention)),
  (merges.Dot(), (_L.Dot,)),
  (
    Whole('has other weights at every place'),
    (_L.LocallyConnected1D, _L.LocallyConnected2D),
  ),
  (Whole('runs code that cannot be followed'), (_L.Lambda,)),
  (Whole('has its own statistics for each channel: adapt it on images'), (_L.Normalization,)),
  (elementwise.Elementwise(), (_L.ReLU, _L.LeakyReLU, _L.ELU, _L.ThresholdedReLU)),
  (elementwise.Activation(), (_L.Activation,)),
  (elementwise.Softmax(), (_L.Softmax,)),
  (elementwise.Rescaling(), (_L.Rescaling,)),
  (
    elementwise.Passing(),
    (
      _L.Dropout,
      _L.SpatialDropout1D,
      _L.SpatialDropout2D,
      _L.SpatialDropout3D,
      _L.GaussianDropout,
      _L.GaussianNoise,
      _L.AlphaDropout,
      _L.ActivityRegularization,
      _L.Identity,
    ),
  ),
  (
    shapes.Spatial(),
    (
      _L.MaxPooling1D,
      _L.MaxPooling2D,
      _L.MaxPooling3D,
      _L.AveragePooling1D,
      _L.AveragePooling2D,
      _L.AveragePooling3D,
      _L.UpSampling1D,
      _L.UpSampling2D,
      _L.UpSampling3D,
      _L.Cropping1D,
      _L.Cropping2D,
      _L.Cropping3D,
      _L.CenterCrop,
      _L.Resizing,
      _L.RandomCrop,
      _L.RandomFlip,
      _L.RandomRotation,
      _L.RandomTranslation,
      _L.RandomZoom,
    ),
  ),
  (shapes.ZeroPadding(), (_L.ZeroPadding1D, _L.ZeroPadding2D, _L.ZeroPadding3D)),
  (
    shapes.GlobalPool(),
    (
      _L.GlobalAveragePooling1D,
      _L.GlobalAveragePooling2D,
      _L.GlobalAveragePooling3D,
      _L.GlobalMaxPooling1D,
      _L.GlobalMaxPooling2D,
      _L.GlobalMaxPooling3D,
    ),
  ),
  (shapes.Flatten(), (_L.Flatten,)),
  (shapes.Reshape(), (_L.Reshape,)),
  (shapes.Permute(), (_L.Permute,)),
  (shapes.RepeatVector(), (_L.RepeatVector,)),
  (merges.Merge(_sum), (_L.Add,)),
  (merges.Merge(lambda values: values[0] - values[1]), (_L.Subtract,)),
  (merges.Merge(lambda values: np.prod(values, axis=0)), (_L.Multiply,)),
  (merges.Merge(lambda values: np.mean(values, axis=0)), (_L.Average,)),
  (merges.Merge(lambda values: np.max(values, axis=0)), (_L.Maximum,)),
  (merges.Merge(lambda values: np.min(values, axis=0)), (_L.Minimum,)),
  (merges.Concatenate(), (_L.Concatenate,)),
  (Selection(), (ChannelSelection,)),
]
_BY_TYPE = {layer_type: rule for rule, types in _TABLE for layer_type in types}

# Classes that Keras keeps private or makes again, by module and name.
_BY_NAME: dict[tuple[str, str], Rule] = {
  ('batch_normalization', 'BatchNormalization'): norms.BatchNorm(),
  ('batch_normalization', 'SyncBatchNormalization'): norms.BatchNorm(),
  ('batch_normalization', 'BatchNormalizationBase'): norms.BatchNorm(),
  ('batch_normalization_v1', 'BatchNormalization'): norms.BatchNorm(),
  ('tf_op_layer', 'TFOpLambda'): OpRule(),
  ('tf_op_layer', 'SlicingOpLambda'): OpRule(),
  ('convnext', 'LayerScale'): scales.LayerScale(),
  ('convnext', 'StochasticDepth'): elementwise.Passing(),
  ('inception_resnet_v2', 'CustomScaleLayer'): elementwise.ScaledSum(),
}
_UNKNOWN = Rule()


def register_layer_rule(kind: type | str, rule: Rule) -> None:
  """Teaches the graph how channels pass through a layer or an operation of yours.

  Args:
    kind: a tf_keras layer class (the rule does not apply to its subclasses), or the public name of a
      TensorFlow operation, such as 'math.bessel_j0', which is the `symbol` of its layer.
    rule: a `PassThrough`, a `PerChannel`, or a `Rule` of yours.

  Raises:
    UserError: if the class or operation can be cut already, or the arguments are of other types.
  """
  if not isinstance(rule, Rule):
    raise UserError(
      f'A layer rule must be a Rule, got {type(rule).__name__}: pass an instance, such as'
      ' PassThrough().'
    )
  if isinstance(kind, str):
    register_operation(kind, rule)
    return
  if not (isinstance(kind, type) and issubclass(kind, _L.Layer)):
    raise UserError(f'Expected a tf_keras layer class or the name of an operation, got {kind!r}.')
  known = _BY_TYPE.get(kind, _by_name(kind))
  if type(known) not in (Rule, Whole):
    raise UserError(f'Layer class {kind.__name__} has a rule already: register a subclass instead.')
  _BY_TYPE[kind] = rule


def rule_of(layer: keras.layers.Layer) -> Rule:
  """The rule for `layer`; for classes that are not listed, the rule that protects everything."""
  kind = type(layer)
  if kind in _BY_TYPE:
    return _BY_TYPE[kind]
  return _by_name(kind)


def _by_name(kind: type) -> Rule:
  """The rule of a class that Keras keeps private."""
  parts = kind.__module__.split('.')
  if parts[0] == 'tf_keras':
    return _BY_NAME.get((parts[-1], kind.__name__), _UNKNOWN)
  return _UNKNOWN


_BY_TYPE[_L.TimeDistributed] = wrappers.TimeDistributed(rule_of)
