"""What a MultiHeadAttention reads, and the products that it makes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tf_keras as keras

from secateurs.utils.graph.flat.walk import Call, Ref

_ARGUMENTS = ('query', 'value', 'key', 'attention_mask')


def attention_inputs(call: Call) -> dict[str, int]:
  """Argument -> number of the input, for those arguments of the call that are tensors."""
  found: dict[str, int] = {}
  named = [*zip(_ARGUMENTS, call.args), *sorted(call.kwargs.items())]
  for name, value in named:
    found.update({name: len(found)} if isinstance(value, Ref) else {})
  return found


def attention_products(
  layer: keras.layers.MultiHeadAttention,
  shapes: Sequence[tuple],
  shape_out: tuple,
  channels: Sequence[int] | None = None,
  widths: Sequence[int] | None = None,
) -> list[tuple[int, ...]]:
  """The sides of the six products of one sample, whose product each is a number of multiply-adds.

  Query, key and value are projected, all queries meet all keys, the scores weigh the values, and the
  heads are projected together.

  Args:
    layer: the attention.
    shapes: of query, key and value, with the batch.
    shape_out: of the output.
    channels: of query, key, value and output where they are others than in the shapes.
    widths: heads, channels of a head's keys and of its values, where they are others than the layer's.
  """
  query, key, value = shapes
  rows = channels or (query[-1], key[-1], value[-1], shape_out[-1])
  heads, wide, deep = widths or (layer._num_heads, layer._key_dim, layer._value_dim)
  attended = {axis % len(query) for axis in layer._attention_axes}
  free = math.prod(size for axis, size in enumerate(query[1:-1], 1) if axis not in attended)
  asked = math.prod(size for axis, size in enumerate(query[1:-1], 1) if axis in attended)
  heard = math.prod(size for axis, size in enumerate(key[1:-1], 1) if axis in attended)
  return [
    (free * asked, rows[0], heads, wide),
    (free * heard, rows[1], heads, wide),
    (free * heard, rows[2], heads, deep),
    (free * asked, heard, heads, wide),
    (free * asked, heard, heads, deep),
    (free * asked, heads, deep, rows[3]),
  ]
