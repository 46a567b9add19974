"""Layers that treat every value by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.rules.activations import acts_on_channels_apart, apply
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.merges import merged


class Passing(Rule):
  """Dropout and other layers that do nothing at inference."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    return [view.ins[0]]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Unchanged."""
    return [ins[0]]


class Elementwise(Passing):
  """ReLU and its kin as layers."""

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """The layer's function of each constant."""
    function = trace.call.layer.call
    value = apply(lambda x: tf.convert_to_tensor(function(x)), ins[0].value)
    return [Constant.merged(ins, value)]


class Activation(Passing):
  """Activation: element-wise functions pass, softmax and unknown functions protect."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass or are protected."""
    activation = view.layer.activation
    if not acts_on_channels_apart(activation):
      name = getattr(activation, '__name__', type(activation).__name__)
      view.protect_inputs(f'activation {name!r} of {view.title()} may mix channels')
    return [view.ins[0]]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """The function of each constant."""
    return [Constant.merged(ins, apply(trace.call.layer.activation, ins[0].value))]


class Softmax(Passing):
  """Softmax as a layer: protects if it runs along the channels."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass or are protected."""
    channels, rank = view.ins[0], len(view.in_shapes[0])
    axis = view.layer.axis
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    if channels.axis in [one % rank for one in axes]:
      view.atoms.protect(channels.labels, f'{view.title()} normalises over the channels')
    return [channels]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return Rule.constant(self, trace, ins)


class Rescaling(Passing):
  """Rescaling: scale and offset may have one number for each channel of the last axis."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    several = [np.ndim(one) for one in (view.layer.scale, view.layer.offset)]
    if max(several) > 1:
      view.protect_inputs(f'{view.title()} has a scale for each place')
    elif max(several) == 1:
      labels = view.on_axis(0, -1)
      view.share(labels)
    return [view.ins[0]]

  def config(self, cut: Cut) -> dict[str, Any]:
    """Scale and offset of the channels that are left."""
    layer, changes = cut.layer, {}
    for name in ('scale', 'offset'):
      value = np.asarray(getattr(layer, name))
      if value.ndim == 1 and len(value) == len(cut.ins[0]):
        changes[name] = value[cut.ins[0]].tolist()
    return changes

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return Rule.constant(self, trace, ins)


class ScaledSum(Rule):
  """The scaled residual of Inception-ResNet: first + scale * second."""

  def trace(self, view: View) -> list[Channels]:
    """As for an addition."""
    return [merged(view)]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Constant if both are."""
    if len(ins[0].value) != len(ins[1].value):
      return [Constant.live(len(trace.outs[0].labels))]
    return [Constant.merged(ins, ins[0].value + ins[1].value * trace.call.layer.scale)]
