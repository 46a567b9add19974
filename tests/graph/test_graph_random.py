"""Random networks: slicing equals masking whatever the layers, keeps and couplings."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import check_slice, randomize
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from secateurs.utils.graph import ChannelGraph

L = keras.layers
SIDE = 6


def _conv(draw, y):
  groups = draw(st.sampled_from([g for g in (1, 1, 1, 2, 3, 4) if y.shape[-1] % g == 0]))
  filters = groups * draw(st.integers(1, 8 // groups + 1))
  return L.Conv2D(
    filters, draw(st.sampled_from([1, 3])), padding='same', groups=groups,
    use_bias=draw(st.booleans()), activation=draw(st.sampled_from([None, 'relu'])),
  )(y)  # fmt: skip


def _norm(draw, y):
  channels = y.shape[-1]
  kind = draw(st.sampled_from(['batch', 'batch', 'batch', 'layer', 'group', 'prelu', 'depth']))
  if kind == 'batch':
    return L.BatchNormalization(scale=draw(st.booleans()))(y)
  if kind == 'layer':
    return L.LayerNormalization()(y)
  if kind == 'prelu':
    return L.PReLU(shared_axes=draw(st.sampled_from([None, [1, 2]])))(y)
  if kind == 'group':
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    return L.GroupNormalization(groups)(y)
  return L.DepthwiseConv2D(3, padding='same', depth_multiplier=draw(st.integers(1, 2)))(y)


def _pass(draw, y):
  kind = draw(st.sampled_from(['relu', 'swish', 'pad', 'op', 'shuffle', 'permute', 'lambda']))
  if kind == 'pad':
    return L.Cropping2D(1)(L.UpSampling2D(1)(L.ZeroPadding2D(1)(y)))
  if kind == 'op':
    return tf.nn.relu6(y * 1.5 + 0.25)
  if kind == 'permute':
    return L.Permute((2, 1, 3))(y)
  if kind == 'lambda' and draw(st.booleans()):
    return L.Lambda(lambda t: tf.cumsum(t, axis=-1))(y)
  if kind == 'shuffle' and y.shape[-1] % 2 == 0:
    half = y.shape[-1] // 2
    y = L.Permute((1, 2, 4, 3))(L.Reshape((SIDE, SIDE, 2, half))(y))
    return L.Reshape((SIDE, SIDE, 2 * half))(y)
  return L.Activation('relu' if kind == 'relu' else 'swish')(y)


def _merge(draw, y, pool):
  other = draw(st.sampled_from(pool))
  kind = draw(st.sampled_from(['add', 'multiply', 'maximum', 'concat', 'excite', 'split']))
  if kind == 'concat':
    if y.shape[-1] + other.shape[-1] > 24:
      return y
    return draw(st.sampled_from([L.Concatenate(), lambda v: tf.concat(v, -1)]))([y, other])
  if kind == 'excite':
    gate = L.GlobalAveragePooling2D(keepdims=draw(st.booleans()))(other)
    return L.Multiply()([y, L.Dense(y.shape[-1], activation='sigmoid')(gate)])
  if kind == 'split' and y.shape[-1] > 2:
    cut = draw(st.integers(1, y.shape[-1] - 1))
    return tf.concat([y[..., cut:], y[..., :cut]], axis=-1)
  if other.shape[-1] != y.shape[-1]:
    other = L.Conv2D(y.shape[-1], 1)(other)
  merge = {'add': L.Add, 'multiply': L.Multiply}.get(kind, L.Maximum)
  return merge()([y, other])


@st.composite
def networks(draw):
  """A model of 3 to 9 random steps on any earlier tensor, with one or two heads."""
  x = keras.Input((SIDE, SIDE, 3))
  pool = [L.Conv2D(draw(st.integers(2, 8)), 3, padding='same')(x)]
  for _ in range(draw(st.integers(3, 9))):
    y = draw(st.sampled_from(pool[-3:]))
    step = draw(st.sampled_from(['conv', 'conv', 'norm', 'pass', 'merge', 'merge']))
    if step == 'merge':
      pool.append(_merge(draw, y, pool))
    else:
      pool.append({'conv': _conv, 'norm': _norm, 'pass': _pass}[step](draw, y))
  y = pool[-1]
  flat = draw(st.sampled_from(['flatten', 'pool']))
  y = L.Flatten()(y) if flat == 'flatten' else L.GlobalAveragePooling2D()(y)
  heads = [L.Dense(3)(y)]
  if draw(st.booleans()):
    heads.append(L.GlobalMaxPooling2D()(draw(st.sampled_from(pool))))
  return keras.Model(x, heads)


def _choice(graph, rng):
  """Random keeps by group, and random input rows of some consumers."""
  keep = {}
  for group in graph.groups:
    if group.prunable and rng.random() < 0.8:
      mask = np.ones(group.size, bool)
      free = rng.permutation(np.flatnonzero(group.free))
      mask[free[: rng.integers(0, len(free) + 1)]] = False
      for member in group.members:  # at least one channel in every layer
        mask[member.elements[rng.integers(len(member.elements))]] = True
      keep[group.index] = mask
  for name, trace in graph.first_traces.items():
    if trace.consumed is not None and rng.random() < 0.2:
      roots = trace.ins[0].labels
      mask = rng.random(len(roots)) < 0.6
      alive = np.ones(len(roots), bool)
      for index, kept in ((k, v) for k, v in keep.items() if isinstance(k, int)):
        alive &= ~np.isin(roots, graph.groups[index].roots[~kept])
      if (mask & alive).any():
        keep[name, 'input'] = mask
  return keep


def _settings(examples):
  return settings(
    max_examples=examples,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
  )


def check(model, seed):
  keras.backend.clear_session()
  randomize(model, seed)
  graph = ChannelGraph(model)
  check_slice(model, _choice(graph, np.random.default_rng(seed)))
  for group in graph.groups:
    assert group.free.all() or all(group.reasons)


@_settings(8)
@given(networks(), st.integers(0, 2**16))
def test_slicing_equals_masking_or_is_protected(model, seed):
  check(model, seed)


@pytest.mark.slow
@_settings(40)
@given(networks(), st.integers(2**16, 2**20))
def test_slicing_equals_masking_on_many_networks(model, seed):
  check(model, seed)
