"""A whole network as a .dc file, and back.

  magic (6 bytes 'SECDC1'), CRC-32 of all that follows the next field (u32), its length (u64),
  header length (u32), header: deflated JSON, then the weights in the order of the header.

The header holds the network as tf_keras serialises it, and for each weight its name, shape, bytes, and
for kernels how they are bucketed. Other weights follow, deflated together, float32 as float16 where
that holds them exactly; of each the first bytes of all values come first, then the second ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.packed import entries, kernels
from secateurs.utils.deploy.packed.halves import are_halves, in_halves
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.unpacking import inflated, limited_variables, require_room
from secateurs.utils.untrusted import refuse_config

MAGIC = b'SECDC1'
_HEAD = '<6sIQ'
_MAX_HEADER = 32 << 20
_BYTES_PARSED = 24  # The most that a character of JSON takes as objects of Python, about.
_BYTES_DECODED = 32  # What each weight of a kernel takes while it is decoded, about.
_DAMAGED = (
  ValueError,
  LookupError,
  TypeError,
  AttributeError,
  ArithmeticError,
  MemoryError,
  RecursionError,
)
_REMEDY = 'give a .dc file that this program wrote, or run the export again'


def pack(
  model: keras.Model,
  buckets: Mapping[int, Buckets],
  stage: str = kernels.ALL,
  *,
  rounding: bool = False,
) -> bytes:
  """The content of a .dc file.

  Args:
    model: functional, of layers that plain tf_keras loads.
    buckets: of the weights that are coded, by their place in `model.weights`.
    stage: the last stage of `kernels.STAGES` that is used.
    rounding: whether weights are rounded to 16 bits; else those that 16 bits hold take no more.
  """
  bare = keras.Model(model._nested_inputs, model._nested_outputs, name=model.name)
  values = {weight.ref(): weight.numpy() for weight in model.weights}
  coded = {model.weights[place].ref(): kind for place, kind in buckets.items()}
  described, parts, others = [], [], []
  for weight in bare.weights:
    value, kind = values[weight.ref()], coded.get(weight.ref())
    value = in_halves(value) if rounding else value
    entry: dict[str, Any] = {'name': weight.name.split(':')[0], 'shape': list(value.shape)}
    if kind is not None:
      part = kernels.write(value, kind, stage)
      parts.append(part)
      entry['bytes'] = len(part)
      entry['buckets'] = [kind.kind, kind.size, kind.channel_axes]
    else:
      entry['type'] = value.dtype.str
      if stage == kernels.ALL and are_halves(value):
        value, entry['half'] = value.astype(np.float16), 1
      others.append(_by_place(value))
    described.append(entry)
  rest = b''.join(others)
  deflated = zlib.compress(rest, 9)
  header = {
    'network': keras.saving.serialize_keras_object(bare),
    'weights': described,
    'others': len(deflated),
    'by_place': 1,
  }
  head = zlib.compress(json.dumps(header, separators=(',', ':')).encode(), 9)
  body = struct.pack('<I', len(head)) + head + b''.join(parts) + deflated
  return struct.pack(_HEAD, MAGIC, zlib.crc32(body), len(body)) + body


@dataclasses.dataclass(frozen=True)
class Packed:
  """What a .dc file holds: the network's config, and its weights in order; `name` for messages."""

  network: dict[str, Any]
  weights: list[np.ndarray]
  name: str | os.PathLike

  def model(self) -> keras.Model:
    """The network with its weights.

    Raises:
      UserError: the config is no network, one of other weights, or of more than fits into memory.
    """
    try:
      with limited_variables(self.name):
        model = keras.saving.deserialize_keras_object(self.network, safe_mode=True)
      model.set_weights(self.weights)
    except UserError:
      raise
    except Exception as error:  # Keras raises many types for what it cannot read.
      raise UserError(
        f'{self.name} holds no network that tf_keras can build ({first_line(error)}): {_REMEDY}.'
      ) from error
    return model


def unpack(content: bytes, name: str | os.PathLike = 'The file') -> Packed:
  """What the content of a .dc file holds.

  Args:
    content: of the file.
    name: what messages call it.

  Raises:
    UserError: it is no such file, cut off or damaged, too large, or would run code.
  """
  size = struct.calcsize(_HEAD)
  if len(content) < size or not content.startswith(MAGIC):
    raise UserError(f'{name} is no packed network of this version: {_REMEDY}.')
  _, checksum, length = struct.unpack(_HEAD, content[:size])
  body = content[size:]
  if len(body) != length:
    raise UserError(
      f'{name} has {len(body)} bytes after its head, but {length} were expected: {_REMEDY}.'
    )
  if zlib.crc32(body) != checksum:
    raise UserError(f'{name} is damaged, since its checksum does not match: {_REMEDY}.')
  try:
    found = _parsed(body, name)
  except UserError:
    raise
  except (*_DAMAGED, struct.error, zlib.error) as error:
    raise UserError(f'{name} cannot be decoded ({first_line(error)}): {_REMEDY}.') from error
  refuse_config(found.network, name)
  return found


def _parsed(body: bytes, name: str | os.PathLike) -> Packed:
  (length,) = struct.unpack('<I', body[:4])
  text = inflated(body[4 : 4 + length], _MAX_HEADER)
  require_room(_BYTES_PARSED * len(text), name)
  header = json.loads(text)
  place, found = 4 + length, []
  weights = [entries.parsed(entry) for entry in header['weights']]
  largest = max((one.size for one in weights if one.buckets is not None), default=0)
  require_room(sum(one.nb_bytes for one in weights) + _BYTES_DECODED * largest, name)
  others = entries.whole(header['others'], 'number of bytes')
  rest = inflated(body[len(body) - others :], sum(one.nb_stored for one in weights))
  taken = 0
  for one in weights:
    if one.buckets is not None:
      found.append(kernels.read(body[place : place + one.coded], one.buckets))
      place += one.coded
    else:
      data = rest[taken : taken + one.nb_stored]
      if header.get('by_place'):  # Files of the first edition have none.
        data = np.frombuffer(data, np.uint8).reshape(one.stored.itemsize, -1).T.tobytes()
      values = np.frombuffer(data, one.stored).reshape(one.shape)
      found.append(values.astype(one.type, copy=False))
      taken += one.nb_stored
  return Packed(header['network'], found, name)


def _by_place(value: np.ndarray) -> bytes:
  """First bytes of all values, then second ones, and so on: equal ones are nearer to each other."""
  return np.frombuffer(value.tobytes(), np.uint8).reshape(-1, value.itemsize).T.tobytes()


def read(path: str | os.PathLike) -> Packed:
  """What a .dc file holds.

  Raises:
    UserError: it is missing, no such file, cut off or damaged.
  """
  path = Path(path).expanduser()
  if not path.is_file():
    raise UserError(f'{path} does not exist: {_REMEDY}.')
  return unpack(path.read_bytes(), path)
