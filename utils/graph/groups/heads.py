"""Which calls lay channels out as the heads of an attention."""

from __future__ import annotations

import tf_keras as keras

from secateurs.utils.graph.flat.walk import Call, FlatModel

_PRODUCTS = ('matmul', 'einsum')


def calls_of_heads(flat: FlatModel) -> set[int]:
  """Finds the layers and reshapes whose output enters a product of two tensors as heads.

  A MultiHeadAttention is one. Another is a call whose output reaches a product of two tensors (matmul,
  einsum, Dot) through calls that have no weights and change no layout, such as a transposition, a
  scale or a split. So a channel shuffle, which meets a convolution next, is none.

  Returns:
    Indices of the calls.
  """
  readers: dict[int, list[int]] = {}
  for index, call in enumerate(flat.calls):
    for number in call.inputs:
      readers.setdefault(number, []).append(index)
  # From the end: a call is asked after all those that read it.
  reaches: set[int] = set()
  found: set[int] = set()
  for index in reversed(range(len(flat.calls))):
    call = flat.calls[index]
    if any(
      one in reaches or _is_product(flat.calls[one])
      for number in call.outputs
      for one in readers.get(number, ())
    ):
      found.add(index)
      if not call.layer.weights and not _lays_out(call):
        reaches.add(index)
    if isinstance(call.layer, keras.layers.MultiHeadAttention):
      found.add(index)
  return found


def _symbol(call: Call) -> str:
  return (getattr(call.layer, 'symbol', None) or '').split('.')[-1]


def _is_product(call: Call) -> bool:
  several = len(set(call.inputs)) > 1
  return isinstance(call.layer, keras.layers.Dot) or (several and _symbol(call) in _PRODUCTS)


def _lays_out(call: Call) -> bool:
  return isinstance(call.layer, keras.layers.Reshape) or _symbol(call) == 'reshape'
