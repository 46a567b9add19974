"""MultiHeadAttention with its heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.attention import attention_inputs, attention_products
from secateurs.utils.graph.flat.rebuild import Axes, layer_values
from secateurs.utils.graph.rules.base import Cut, Rule, Sides, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.producers import Producer

# Weights in the order of the layer: those that project query, key and value, and the output's.
_KERNEL = {'query': 'kernel', 'key': 'kernel#1', 'value': 'kernel#2'}
_BIAS = {'query': 'bias', 'key': 'bias#1', 'value': 'bias#2'}
_OUTPUT, _OUTPUT_BIAS = 'kernel#3', 'bias#3'


class HeadAttention(Producer):
  """MultiHeadAttention: what it reads, what it gives, and the heads inside.

  Inside, channel j of query and key goes in all heads alike ('key'), and channel j of value with the
  rows of the output projection ('value'); or heads go as a whole ('heads'). The layer divides its
  scores by the square root of its key_dim. A smaller key_dim d' in place of d would change that scale,
  so the query's projection is multiplied by sqrt(d' / d).
  """

  by_initializers = False
  emits_bias = False
  fold_obstacle = 'which is an attention'

  def trace(self, view: View) -> list[Channels]:
    """Rows of the projections that read, new atoms for the inside and the output."""
    layer, numbers = view.layer, attention_inputs(view.call)
    named = {**numbers, 'key': numbers.get('key', numbers.get('value'))}
    named.pop('attention_mask', None)
    known = None not in named.values() and {'query', 'value'} <= set(named)
    if not known or 0 not in named.values() or len(_given(layer._output_shape)) > 1:
      return Rule.trace(self, view)
    reads = {name: view.on_axis(number, -1) for name, number in named.items()}
    for number, channels in enumerate(view.ins):
      if number not in named.values():
        view.atoms.protect(channels.labels, f'{view.title()} takes it for its mask')
    view.consumed = view.ins[0].labels
    if view.previous is None:
      view.produced = view.atoms.new(view.out_shapes[0][-1])
      view.inside = self._inside(view)
    else:
      view.produced, view.inside = view.previous.produced, view.previous.inside
      before = _reads(view.previous)
      for name, labels in reads.items():
        view.atoms.tie(view.previous.ins[before[name]].labels, labels)
    outs = [Channels(len(view.out_shapes[0]) - 1, view.produced)]
    for shape in view.out_shapes[1:]:
      axis = len(shape) - 2 * len(layer._attention_axes) - 1
      heads = view.inside.get('heads')
      outs.append(Channels.none() if heads is None else Channels(axis, heads))
    return outs

  def _inside(self, view: View) -> dict[str, np.ndarray]:
    layer, atoms = view.layer, view.atoms
    if view.whole_heads:
      return {'heads': atoms.new(layer._num_heads)}
    return {'key': atoms.new(layer._key_dim), 'value': atoms.new(layer._value_dim)}

  def config(self, cut: Cut) -> dict[str, Any]:
    """Widths, and the shapes that the layer was built for."""
    if cut.trace.produced is None:
      return {}
    changes: dict[str, Any] = {'output_shape': int(cut.outs[0].sum())}
    names = {'heads': 'num_heads', 'key': 'key_dim', 'value': 'value_dim'}
    changes |= {names[part]: int(kept.sum()) for part, kept in cut.inside.items()}
    config = cut.layer.get_config()
    for name, number in _reads(cut.trace).items():
      shape = config.get(f'{name}_shape')
      if shape is not None:
        changes[f'{name}_shape'] = [*list(shape)[:-1], int(cut.ins[number].sum())]
    return changes

  def axes(self, cut: Cut) -> Axes:
    """Kernels [rows, heads, width] that read, [heads, width, filters] that writes; biases alike."""
    if cut.trace.produced is None:
      return {}
    reads, heads = _reads(cut.trace), cut.inside.get('heads')
    found: dict[str, list] = {name: [(0, cut.ins[reads[key]])] for key, name in _KERNEL.items()}
    found |= {name: [] for name in _BIAS.values()}
    found[_OUTPUT], found[_OUTPUT_BIAS] = [(-1, cut.outs[0])], [(0, cut.outs[0])]
    widths = {
      'query': cut.inside.get('key'),
      'key': cut.inside.get('key'),
      'value': cut.inside.get('value'),
    }
    for key, width in widths.items():
      for axis, kept in ((-2, heads), (-1, width)):
        if kept is not None:
          found[_KERNEL[key]].append((axis, kept))
          found[_BIAS[key]].append((axis, kept))
    for axis, kept in ((0, heads), (1, widths['value'])):
      if kept is not None:
        found[_OUTPUT].append((axis, kept))
    return found

  def sides(self, cut: Cut) -> tuple[list[Sides], list[Sides]]:
    """The sides of all products that the layer makes, whole and with what stays."""
    layer, reads = cut.layer, _reads(cut.trace)
    shapes = [cut.trace.in_shapes[reads[name]] for name in ('query', 'key', 'value')]
    whole = attention_products(layer, shapes, cut.trace.out_shapes[0])
    if cut.trace.produced is None:
      return whole, whole
    inputs = [int(cut.ins[reads[name]].sum()) for name in ('query', 'key', 'value')]
    left = {part: int(kept.sum()) for part, kept in cut.inside.items()}
    widths = (
      left.get('heads', layer._num_heads),
      left.get('key', layer._key_dim),
      left.get('value', layer._value_dim),
    )
    kept = attention_products(
      layer, shapes, cut.trace.out_shapes[0], (*inputs, int(cut.outs[0].sum())), widths
    )
    return whole, kept

  def values(self, cut: Cut) -> list[np.ndarray]:
    """Cut, and the query's projection scaled for the smaller key_dim."""
    values = layer_values(cut.layer, self.axes(cut))
    kept = cut.inside.get('key')
    if kept is None or kept.all():
      return values
    scale = np.float32(np.sqrt(kept.mean()))
    for place in range(2 if cut.layer._use_bias else 1):
      values[place] = values[place] * scale
    return values

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """Rows of dropped inputs, what the query gives to dropped channels, and what the output hears."""
    if cut.trace.produced is None:
      return []
    found = []
    for name, number in _reads(cut.trace).items():
      found.append((_KERNEL[name], 0, cut.ins[number]))
    if 'key' in cut.inside:
      found.append((_KERNEL['query'], 2, cut.inside['key']))
      if cut.layer._use_bias:
        found.append((_BIAS['query'], 1, cut.inside['key']))
    for part, axis in (('heads', 0), ('value', 1)):
      if part in cut.inside:
        found.append((_OUTPUT, axis, cut.inside[part]))
    return [one for one in found if not one[2].all()]

  def heard(self, trace: Trace) -> list[int]:
    """Value and key, where they are other tensors than the query."""
    if trace.produced is None:
      return []
    numbers = set(_reads(trace).values())
    return [one for one in sorted(numbers) if trace.call.inputs[one] != trace.call.inputs[0]]

  def row_norms(self, layer: keras.layers.Layer, count: int) -> np.ndarray:
    """L1 norm of the rows of all kernels that have as many."""
    kernels = [one.kernel.numpy() for one in _projections(layer)]
    found = [np.abs(one).reshape(count, -1).sum(axis=1) for one in kernels if len(one) == count]
    return np.sum(found, axis=0)

  def filters(self, layer: keras.layers.Layer) -> np.ndarray:
    """The output projection."""
    kernel = layer._output_dense.kernel.numpy()
    return kernel.reshape(-1, kernel.shape[-1])

  def made(self, trace: Trace, part: str | None = None) -> np.ndarray | None:
    """For channels inside, all the weights that go with them."""
    layer = trace.call.layer
    query, key, value = (one.kernel.numpy() for one in _projections(layer))
    out = layer._output_dense.kernel.numpy()
    if part == 'heads':
      return _stacked(1, query, key, value, np.moveaxis(out, 0, 1))
    if part == 'key':
      return _stacked(2, query, key)
    if part == 'value':
      return _stacked(2, value, np.moveaxis(out, 1, 2))
    return None if trace.produced is None else self.filters(layer)

  def rows_are_own(self, layer: keras.layers.Layer) -> bool:
    """Rows go with their channel."""
    return False

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Constants are not folded."""
    return False

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return [Constant.live(len(out.labels)) for out in trace.outs]


def _projections(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
  return [layer._query_dense, layer._key_dense, layer._value_dense]


def _stacked(axis: int, *kernels: np.ndarray) -> np.ndarray:
  """Kernels with `axis` last, below each other: [weights, channels]."""
  moved = [np.moveaxis(one, axis, -1) for one in kernels]
  return np.concatenate([one.reshape(-1, one.shape[-1]) for one in moved])


def _given(output_shape: Any) -> list:
  """The axes of the layer's output after the positions, as its argument names them."""
  if output_shape is None:
    return []
  return [output_shape] if isinstance(output_shape, int) else list(output_shape)


def _reads(trace: Trace) -> dict[str, int]:
  """Query, key and value -> number of the input."""
  numbers = attention_inputs(trace.call)
  return {name: numbers.get(name, numbers['value']) for name in ('query', 'key', 'value')}
