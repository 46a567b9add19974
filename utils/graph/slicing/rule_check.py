"""Proves a rule of the user's: what is sliced around a layer gives what is masked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.slicing.builder import apply_plan
from secateurs.utils.graph.slicing.masking import masked
from secateurs.utils.graph.slicing.settling import plan_slice

_NB_CUTS, _NB_SAMPLES = 4, 3
_TOLERANCE = 1e-5
_MADE = 5  # Channels that are read after the layer.


def check_layer_rule(layer: keras.layers.Layer, shape: Sequence[int]) -> float:
  """Cuts random channels around a layer, and compares the sliced network with the masked one.

  The network is a Dense layer along the last axis, the layer, and another Dense layer, with random
  weights everywhere.

  Args:
    layer: of the registered class; it is built and given random weights.
    shape: of one of its inputs without the batch, channels last; for a pixel shuffle such as
      (4, 4, 16).

  Returns:
    The largest difference, as a fraction of the outputs' range.

  Raises:
    UserError: the rule cuts nothing around the layer, or what it cuts computes something else.
  """
  rng = np.random.default_rng(0)
  inputs = keras.Input((*shape[:-1], 3))
  x = layer(keras.layers.Dense(shape[-1], name='before')(inputs))
  model = keras.Model(inputs, keras.layers.Dense(_MADE, name='after')(x))
  for weight in model.weights:
    weight.assign(rng.uniform(0.5, 1.5, weight.shape) * rng.choice([-1.0, 1.0], weight.shape))
  graph, kind = ChannelGraph(model), type(layer).__name__
  group = graph.group('before')
  if not group.prunable:
    raise UserError(
      f'The rule of {kind} lets no channel go ({"; ".join(group.reasons) or "there is only one"}): its '
      'trace must return the channels of each output.'
    )
  images = tf.constant(rng.normal(size=(_NB_SAMPLES, *shape[:-1], 3)), tf.float32)
  worst = 0.0
  for _ in range(_NB_CUTS):
    keep = np.sort(rng.choice(group.size, max(group.size // 2, 1), replace=False))
    plan = plan_slice(graph, {group.index: keep})
    try:
      small = apply_plan(plan)
    except (ValueError, tf.errors.OpError) as error:
      raise UserError(
        f'The rule of {kind} makes a layer that does not fit its weights '
        f'({first_line(error)}): name all weights along the channels in axes.'
      ) from error
    if small.count_params() >= model.count_params():
      raise UserError(f'The rule of {kind} cuts nothing: every weight has the size that it had.')
    with masked(plan):
      expected = model(images).numpy()
    span = float(np.ptp(expected)) or 1.0
    worst = max(worst, float(np.abs(small(images).numpy() - expected).max()) / span)
  if not worst <= _TOLERANCE:
    raise UserError(
      f'The rule of {kind} is wrong: the sliced network differs from the masked one by {worst:.1e} of '
      'the range of its outputs. Where the layer adds up channels, name their weights in masks, or '
      'their input in summed.'
    )
  return worst
