"""The operations of a function's graph as steps, or equal ones that TensorFlow Lite has in 8 bits."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.training.int8.builder import XY, Builder, X
from secateurs.utils.training.int8.forms import normalisation_parts
from secateurs.utils.training.int8.program import CONTRACT

_ALIASES = ('Identity', 'IdentityN', 'PreventGradient', 'Snapshot', 'CheckNumerics', 'EnsureShape')
_READS = ('ReadVariableOp', *_ALIASES)
_NOTHING = ('NoOp', 'Assert', 'Placeholder')
_CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
_HANDLES = (tf.resource, tf.variant)
_PRODUCTS = ('MatMul', 'BatchMatMul', 'BatchMatMulV2', 'BatchMatMulV3')
_GATHER = [('params', None), ('indices', None), ('axis', None)]
# Scopes whose operations together are one operator of TensorFlow Lite.
_UNIT = re.compile(r'(?:.*/)?(Gelu)(_\d+)?(?=/)')


class NotOpenError(Exception):
  """A layer that cannot be run operation by operation, such as one with loops."""


def add_graph(
  builder: Builder, graph: Any, inputs: list[int], layer: str, unit: str = ''
) -> list[int]:
  """Adds all operations of a graph; returns the numbers of its outputs.

  Args:
    builder: of the program.
    graph: a FuncGraph.
    inputs: numbers of its inputs, except for what it captures of its surroundings.
    layer: whose call it is.
    unit: name of the one operator that TensorFlow Lite makes of it, if it does.

  Raises:
    NotOpenError: it has loops, branches or a state.
  """
  handles = {id(variable.handle): variable for variable in graph.variables}
  known: dict[tuple[str, int], int] = {
    _key(tensor): number for tensor, number in zip(graph.inputs, inputs, strict=False)
  }
  for outer, inner in graph.captures:
    if _key(inner) in known:
      continue
    if id(outer) in handles:
      known[_key(inner)] = builder.variable(handles[id(outer)])
    elif outer.dtype in _HANDLES:
      raise NotOpenError
    else:
      known[_key(inner)] = builder.constant(outer.numpy())
  for operation in graph.get_operations():
    if operation.type in _NOTHING:
      continue
    places = [known[_key(tensor)] for tensor in operation.inputs]
    made = _added(builder, operation, places, layer, unit)
    known.update({(operation.name, i): number for i, number in enumerate(made)})
  return [known[_key(tensor)] for tensor in graph.outputs]


def _key(tensor: Any) -> tuple[str, int]:
  return tensor.op.name, tensor.value_index


def _added(builder: Builder, operation: Any, places: list[int], layer: str, unit: str) -> list[int]:
  """Adds what an operation needs, and returns the numbers of its results."""
  kind = operation.type
  if kind == 'Const':
    return [builder.constant(tf.make_ndarray(operation.get_attr('value')))]
  if kind in _READS:
    return places
  if kind == 'Mul' and 1.0 in (values := [builder.number(place) for place in places]):
    return [places[values.index(1.0) == 0]]  # As of a swish with its beta.
  if kind in _CALLS:
    graph = operation.graph._get_function(operation.get_attr('f').name).graph
    return add_graph(builder, graph, places, layer, unit)
  if kind == 'ResourceGather' and not operation.get_attr('batch_dims'):
    kind, places = 'GatherV2', [*places, builder.constant(np.int32(0))]
    arguments, attrs = _GATHER, {}
  elif kind == 'Pack' and not all(map(builder.is_constant, places)):
    # Whose kernel copies integers, whatever their ranges; that of a concatenation does not.
    axis = operation.get_attr('axis')
    places = [_with_axis(builder, place, axis, layer) for place in places]
    places.append(builder.constant(np.int32(axis)))
    kind, arguments, attrs = 'ConcatV2', [('values', len(places) - 1), ('axis', None)], {}
  else:
    arguments, attrs = _signature(operation)
  outputs = [builder.new(_shape(tensor), tensor.dtype) for tensor in operation.outputs]
  scope = _UNIT.match(operation.name)
  unit = unit or ('' if scope is None else f'{layer}/{scope[0]}')
  if not _add_by_channel(builder, kind, places, outputs, layer, unit, attrs):
    if not unit:
      kind, places, attrs, arguments = _simplified(builder, kind, places, attrs, arguments, layer)
    name = operation.name.rpartition('/')[2]
    options = {'attrs': attrs, 'arguments': arguments, 'name': name, 'unit': unit}
    builder.add(kind, places, outputs, layer, **options)
  return outputs


def _with_axis(builder: Builder, number: int, axis: int, layer: str) -> int:
  """A tensor with one more axis of a single place."""
  shape = list(builder.program.shapes[number])
  shape.insert(axis % (len(shape) + 1), 1)
  output = builder.new(tuple(shape), builder.program.dtypes[number])
  arguments = [('input', None), ('axis', None)]
  builder.add(
    'ExpandDims', [number, builder.constant(np.int32(axis))], [output], layer, arguments=arguments
  )
  return output


def _shape(tensor: Any) -> tuple:
  return tuple(tensor.shape) if tensor.shape.rank is not None else ()


def _add_by_channel(
  builder: Builder,
  kind: str,
  places: list[int],
  outputs: list[int],
  layer: str,
  unit: str,
  attrs: dict[str, Any],
) -> bool:
  """Adds a normalisation by constants, or a factor for each channel, as x scale + offset."""
  shapes = builder.program.shapes
  if kind == 'FusedBatchNormV3' and not attrs['is_training']:
    if attrs['data_format'] not in ('NHWC', b'NHWC') or builder.is_constant(places[0]):
      return False
    parts = normalisation_parts(*places[1:], np.float32(attrs['epsilon']))
    builder.add_affine(places[0], *parts, outputs[0], layer)
    return True
  if kind != 'Mul' or unit or sum(map(builder.is_constant, places)) != 1:
    return False
  x, scale = sorted(places, key=builder.is_constant)
  width = shapes[x][-1] if len(shapes[x]) > 1 else None
  if width in (None, 1) or len(shapes[scale]) > len(shapes[x]):
    return False
  if shapes[scale][-1:] != (width,) or not set(shapes[scale][:-1]) <= {1}:
    return False
  flat = builder.flattened(scale, layer)
  builder.add_affine(x, flat, np.zeros(width, np.float32), outputs[0], layer)
  return True


def _simplified(
  builder: Builder, kind: str, places: list[int], attrs: dict, arguments: list, layer: str
) -> tuple[str, list[int], dict, list]:
  """The operation, or an equal one that TensorFlow Lite has in 8 bits."""
  fixed = [builder.is_constant(number) for number in places]
  if kind == 'Square' and not fixed[0]:
    return 'Mul', places * 2, {}, XY
  if fixed != [False, True]:
    return kind, places, attrs, arguments
  if kind == 'RealDiv':
    return 'Mul', [places[0], builder.expression(('Reciprocal', places[1]), layer)], {}, XY
  if kind == 'Einsum':
    nb_axes = _contracted(attrs['equation'])
    return (CONTRACT, places, {'n': nb_axes}, X) if nb_axes else (kind, places, attrs, arguments)
  if kind in _PRODUCTS and len(builder.program.shapes[places[1]]) == 2:
    turned = any(value is True for value in attrs.values())
    return (kind, places, attrs, arguments) if turned else (CONTRACT, places, {'n': 1}, X)
  return kind, places, attrs, arguments


def _signature(operation: Any) -> tuple[list[tuple[str, int | None]], dict[str, Any]]:
  """Names of an operation's arguments with their numbers of tensors, and its further attributes.

  Raises:
    NotOpenError: it takes a function, or a state that is not that of a layer's variables.
  """
  tensors = [*operation.inputs, *operation.outputs]
  if any(tensor.dtype in _HANDLES for tensor in tensors) or not hasattr(tf.raw_ops, operation.type):
    raise NotOpenError
  arguments, inferred = [], set()
  for argument in operation.op_def.input_arg:
    size = None
    if argument.number_attr:
      size = operation.get_attr(argument.number_attr)
    elif argument.type_list_attr:
      size = len(operation.get_attr(argument.type_list_attr))
    arguments.append((argument.name, size))
    inferred |= {argument.type_attr, argument.number_attr, argument.type_list_attr}
  attrs = {}
  for attribute in operation.op_def.attr:
    if 'func' in attribute.type:
      raise NotOpenError
    if attribute.name not in inferred:
      attrs[attribute.name] = operation.get_attr(attribute.name)
  # Python's names differ from those of the definition in places, such as `axis` for `split_dim`.
  wanted = [*(name for name, _ in arguments), *attrs]
  python = list(inspect.signature(getattr(tf.raw_ops, operation.type)).parameters)
  missing = [name for name in wanted if name not in python]
  renamed = dict(zip(missing, [name for name in python if name not in wanted], strict=False))
  arguments = [(renamed.get(name, name), size) for name, size in arguments]
  return arguments, {renamed.get(name, name): value for name, value in attrs.items()}


def _contracted(equation: bytes | str) -> int:
  """How many last letters of a product's first term meet the first ones of its second; 0 for others."""
  spelled = equation.decode() if isinstance(equation, bytes) else equation
  terms, _, out = spelled.partition('->')
  first, _, second = terms.partition(',')
  for count in range(1, min(len(first), len(second)) + 1):
    letters = first + second[count:]
    fits = first[-count:] == second[:count] and first[:-count] + second[count:] == out
    if fits and len(set(letters)) == len(letters):
      return count
  return 0
