"""Removes residual branches whose shortcut is the identity: a network of less depth."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.copying import copy_flat, copy_layer
from secateurs.utils.graph.flat.walk import Call, FlatModel, flatten_model

_SUMS = ('__operators__.add', 'math.add', 'add_n', 'math.add_n')


def residual_blocks(model: keras.Model) -> list[str]:
  """Names of the additions whose branch `drop_block` can remove, in topological order."""
  flat = flatten_model(model)
  names = [call.name for call in flat.calls if _shortcut(flat, call) is not None]
  return [name for name in names if len(flat.calls_by_layer()[name]) == 1]


def drop_block(model: keras.Model, block: str) -> keras.Model:
  """Returns the model without one residual branch: x + f(x) becomes x.

  Equal to the model whose branch gives zeros.

  Args:
    model: a functional or Sequential tf_keras model, which is left as it is.
    block: name of the addition that ends the block (see `residual_blocks`).

  Returns:
    An uncompiled functional model, nested models opened, with own layers of the same names.

  Raises:
    UserError: if there is no such addition, or its shortcut is not the identity.
  """
  flat = flatten_model(model)
  calls = flat.calls_by_layer().get(block)
  known = residual_blocks(model)
  if calls is None:
    near = difflib.get_close_matches(block, known, 1)
    hint = f'did you mean {near[0]!r}?' if near else 'see residual_blocks(model) for the names.'
    raise UserError(f'Model {model.name!r} has no layer {block!r}: {hint}')
  if block not in known:
    raise UserError(
      f'Layer {block!r} ({type(calls[0].layer).__name__}) does not end a residual block with an'
      f' identity shortcut, called once: expected one of {known[:5] or "none"}'
      f'{" and more" if len(known) > 5 else ""}.'
    )
  kept = calls[0].inputs.index(_shortcut(flat, calls[0]))

  def copy(
    layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]
  ) -> tuple[Callable, Any]:
    if name != block:
      return copy_layer(layer, name, args, kwargs)

    def shortcut(*args: Any, **kwargs: Any) -> Any:
      return _tensors(args, kwargs)[kept]

    return shortcut, shortcut(*args, **kwargs)

  return copy_flat(flat, copy=copy)


def _tensors(args: tuple, kwargs: dict[str, Any]) -> list[Any]:
  """The operands of an addition, however they were passed."""
  given = [*args, *(value for key, value in kwargs.items() if key != 'name')]
  return [
    one for value in given for one in (value if isinstance(value, (list, tuple)) else [value])
  ]


def _shortcut(flat: FlatModel, call: Call) -> int | None:
  """The input of an addition that its other input is computed from, or None."""
  adds = type(call.layer) is keras.layers.Add or getattr(call.layer, 'symbol', None) in _SUMS
  if not adds or len(call.inputs) != 2 or call.inputs[0] == call.inputs[1]:
    return None
  if any(flat.shapes[number] != flat.shapes[call.outputs[0]] for number in call.inputs):
    return None
  for one, other in (call.inputs, call.inputs[::-1]):
    if _depends(flat, other, one):
      return one
  return None


def _depends(flat: FlatModel, tensor: int, source: int) -> bool:
  """Whether a tensor is computed from another."""
  needed = {tensor}
  for call in reversed(flat.calls):
    if needed.intersection(call.outputs):
      needed.update(call.inputs)
  return source in needed and source != tensor
