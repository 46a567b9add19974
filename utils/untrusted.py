"""Finds code in a model file from its config, before anything of the file is loaded.

A model file is data from somewhere, but loaders of Keras run what it names: a Lambda layer holds
Python bytecode, a config can name any function of any module, an operation of TensorFlow can load a
library. What is allowed is listed here; all else is refused with the remedy.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import UserError

INSTEAD_OF_LAMBDA = (
  'put a Rescaling layer, an operation on the tensor itself (x / 255) or a layer class registered with '
  'keras.utils.register_keras_serializable in its place'
)
_FOREIGN = ('TFSMLayer', 'JaxLayer', 'FlaxLayer', 'TorchModuleWrapper')
_OF_KERAS = re.compile(r'(tf_)?keras(?!\.(src\.)?(utils|saving|export))(\.|$)')
_FUNCTIONS = re.compile(
  r'builtins$|(tf_)?keras\.(src\.)?(activations|losses|metrics|initializers|regularizers|'
  r'constraints)(\.|$)'
)
_NAMESPACES = (  # Of operations.
  '__operators__ bitwise dtypes image linalg math nn quantization ragged random sets signal sparse '
  'strings'
)
_OPERATIONS = (  # At the top of TensorFlow.
  'abs acos acosh add add_n approx_top_k argmax argmin argsort as_string asin asinh atan atan2 atanh '
  'batch_to_space batch_to_space_nd bitcast boolean_mask broadcast_to cast ceil clip_by_global_norm '
  'clip_by_norm clip_by_value complex concat convert_to_tensor cos cosh cumprod cumsum depth_to_space '
  'div divide dynamic_partition dynamic_stitch einsum ensure_shape equal erf exp expand_dims eye fill '
  'floor floordiv floormod gather gather_nd greater greater_equal identity identity_n is_finite is_inf '
  'is_nan less less_equal linspace log log1p log_sigmoid logical_and logical_not logical_or '
  'logical_xor matmul matrix_transpose maximum meshgrid minimum mod multiply negative norm not_equal '
  'one_hot ones ones_like pad pow range rank realdiv reduce_all reduce_any reduce_logsumexp '
  'reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse reverse_sequence '
  'roll round rsqrt saturate_cast scalar_mul scatter_nd searchsorted sequence_mask shape shape_n '
  'sigmoid sign sin sinh size slice sort space_to_batch space_to_batch_nd space_to_depth '
  'sparse_tensor_to_dense split sqrt square squared_difference squeeze stack stop_gradient '
  'strided_slice subtract tan tanh tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min '
  'tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truediv truncatediv '
  'truncatemod unique unravel_index unstack where where_v2 zeros zeros_like'
)
_RISKY_NODES = re.compile(r'Func|File|Library|Save|Restore|Dataset|Print|Partitioned|Call|Iterator')


def refuse_code(path: str | os.PathLike, name: str | os.PathLike | None = None) -> None:
  """Reads the configs that a model file holds and refuses those that would run code.

  Args:
    path: a .keras or .h5 file, or a SavedModel folder; anything else passes.
    name: what messages call it, where it is a copy.

  Raises:
    UserError: the file has a Lambda layer, or names a function, a class or an operation that is not
      known to be harmless.
    Exception: of many types, if the file is damaged.
  """
  for config in configs(Path(path)):
    refuse_config(config, name or path)


def refuse_config(config: Any, name: str | os.PathLike) -> None:
  """Refuses one config that would run code.

  Args:
    config: as parsed JSON.
    name: of the file that it is from.

  Raises:
    UserError: as of `refuse_code`.
  """
  for part in _parts(config):
    problem = _problem(part)
    if problem:
      raise UserError(f'{name} {problem}.')


def configs(path: Path) -> Iterator[Any]:
  """The configs in a model file, as parsed JSON; a file that is of two formats gives both."""
  if path.is_dir():
    yield from _configs_of_folder(path)
    return
  if zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      if 'config.json' in archive.namelist():
        yield json.loads(archive.read('config.json'))
  import h5py

  if h5py.is_hdf5(path):
    with h5py.File(path) as file:
      for key in ('model_config', 'training_config'):
        if key in file.attrs:
          yield json.loads(file.attrs[key])


def _configs_of_folder(path: Path) -> Iterator[Any]:
  metadata = path / 'keras_metadata.pb'
  if not metadata.is_file():
    return
  from tf_keras.protobuf import saved_metadata_pb2

  found = saved_metadata_pb2.SavedMetadata()
  found.ParseFromString(metadata.read_bytes())
  for node in found.nodes:
    if node.metadata:
      yield json.loads(node.metadata)


def _parts(value: Any) -> Iterator[dict[str, Any]]:
  """Every dict inside a config, outermost first."""
  pending = [value]
  while pending:
    one = pending.pop()
    if isinstance(one, dict):
      yield one
      pending.extend(one.values())
    elif isinstance(one, (list, tuple)):
      pending.extend(one)


def _problem(part: dict[str, Any]) -> str | None:
  """What is wrong with one dict of a config, as the rest of a sentence."""
  kind, config = part.get('class_name'), part.get('config')
  if not isinstance(kind, str):
    return None
  if kind.rpartition('>')[2] in ('Lambda', '__lambda__'):
    return (
      f'has a Lambda layer, which holds Python code that is not run from files: {INSTEAD_OF_LAMBDA}'
    )
  if kind in _FOREIGN:
    return (
      f'has a {kind}, which runs a program from outside of the file, but layers of Keras were '
      'expected: rebuild the model with such layers'
    )
  if isinstance(config, dict):
    return _problem_of_operation(kind, config) or _problem_of_object(kind, part)
  return _problem_of_object(kind, part)


def _problem_of_operation(kind: str, config: dict[str, Any]) -> str | None:
  operation = config.get('function')
  if kind in ('TFOpLambda', 'SlicingOpLambda') and not _harmless(operation):
    return (
      f'calls the TensorFlow operation {operation!r}, but only operations that compute with tensors '
      'are taken from files: build the model in Python and give the object'
    )
  if kind == 'ClassMethod' and config.get('cls_symbol') not in ('RaggedTensor', None):
    return (
      f'calls a method of {config["cls_symbol"]!r}: build the model in Python and give the object'
    )
  if kind == 'TensorFlowOpLayer':
    node = config.get('node_def')
    names = re.findall(r'op: *"(\w+)"|"op": *"(\w+)"', node if isinstance(node, str) else '')
    names = [a or b for a, b in names] or [str((node or {}).get('op'))]
    if any(_RISKY_NODES.search(name) for name in names):
      return f'runs the operation {names[0]}: build the model in Python and give the object'
  if isinstance(config.get('vocabulary'), str):
    return (
      f'names the file {config["vocabulary"]!r} as the vocabulary of {config.get("name", kind)!r}, but '
      'the words themselves were expected: save the model as .keras, which holds them'
    )
  return None


def _harmless(operation: Any) -> bool:
  if not isinstance(operation, str):
    return False
  path = operation.removeprefix('compat.v1.').removeprefix('compat.v2.').split('.')
  if len(path) == 1:
    return path[0] in _OPERATIONS.split()
  if path[0] == 'keras':
    return path[1] in ('backend', 'activations')
  # `numpy_function` and its like have homes below `compat` and at the top only.
  return path[0] in _NAMESPACES.split() and not any(word.startswith('py_func') for word in path)


def _problem_of_object(kind: str, part: dict[str, Any]) -> str | None:
  """A class or function by its module, as .keras files name them."""
  module = part.get('module')
  if not isinstance(module, str):
    return None
  known = _custom_objects()
  if kind == 'function':
    name = part.get('config')
    if name in known:
      return None
    if _FUNCTIONS.match(module) and _is_plain(name, part) and not hasattr(builtins, name):
      return None
    return (
      f'names the function {name!r} of module {module!r}, which is not run from files: give the module '
      'that defines it with --custom_objects, or register it (keras.utils.register_keras_serializable)'
    )
  if part.get('registered_name', kind) in known:
    return None
  if _OF_KERAS.match(module) and _is_plain(kind, part):
    return None
  if _is_layer(vars(sys.modules[module]).get(kind) if module in sys.modules else None):
    return None
  return (
    f'contains a custom layer or object, {kind} of module {module!r}, which is not imported because a '
    'file names it: name the module that defines it with --custom_objects, or import it and register '
    'the class (keras.utils.register_keras_serializable)'
  )


def _is_plain(name: Any, part: dict[str, Any]) -> bool:
  """Whether Keras can find nothing by a name but what has that name.

  It also follows a dot, takes the name of registration where there is nothing of the name, and
  `spec_name` instead for the type of a tensor: a Lambda layer could be found in each of these ways.
  """
  is_word = isinstance(name, str) and name.isidentifier() and name != '__typespec__'
  return is_word and part.get('registered_name') in (None, name)


def _custom_objects() -> dict[str, Any]:
  """What the user's code has registered, with tf_keras or with Keras 3."""
  known = dict(keras.utils.get_custom_objects())
  three = sys.modules.get('keras')
  if three is not None:
    known |= three.saving.get_custom_objects()
  return known


def _is_layer(found: Any) -> bool:
  """Whether an object that Python code has imported is a layer class, of either Keras."""
  return isinstance(found, type) and any(
    base.__name__ == 'Layer' and base.__module__.startswith(('keras.', 'tf_keras.'))
    for base in found.__mro__
  )
