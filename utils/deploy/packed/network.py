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
import math
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.packed import kernels
from secateurs.utils.deploy.packed.halves import are_halves, in_halves
from secateurs.utils.errors import UserError
from secateurs.utils.unpacking import inflated, require_room
from secateurs.utils.untrusted import refuse_config

MAGIC = b'SECDC1'
_HEAD = '<6sIQ'
_MAX_HEADER = 256 << 20
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
  entries, parts, others = [], [], []
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
    entries.append(entry)
  rest = b''.join(others)
  deflated = zlib.compress(rest, 9)
  header = {
    'network': keras.saving.serialize_keras_object(bare),
    'weights': entries,
    'others': len(deflated),
    'by_place': 1,
  }
  head = zlib.compress(json.dumps(header, separators=(',', ':')).encode(), 9)
  body = struct.pack('<I', len(head)) + head + b''.join(parts) + deflated
  return struct.pack(_HEAD, MAGIC, zlib.crc32(body), len(body)) + body


@dataclasses.dataclass(frozen=True)
class Packed:
  """What a .dc file holds: the network's config, and its weights in order."""

  network: dict[str, Any]
  weights: list[np.ndarray]

  def model(self) -> keras.Model:
    """The network with its weights."""
    model = keras.saving.deserialize_keras_object(self.network, safe_mode=True)
    model.set_weights(self.weights)
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
  except (ValueError, KeyError, struct.error, zlib.error) as error:
    raise UserError(f'{name} cannot be decoded ({error}): {_REMEDY}.') from error
  refuse_config(found.network, name)
  return found


def _parsed(body: bytes, name: str | os.PathLike) -> Packed:
  (length,) = struct.unpack('<I', body[:4])
  header = json.loads(inflated(body[4 : 4 + length], _MAX_HEADER))
  place, found = 4 + length, []
  entries = header['weights']
  require_room(sum(map(_nb_bytes, entries)), name)
  others = sum(_nb_stored(entry) for entry in entries if 'bytes' not in entry)
  rest = inflated(body[len(body) - header['others'] :], others)
  taken = 0
  for entry in entries:
    shape = tuple(entry['shape'])
    if 'bytes' in entry:
      part = body[place : place + entry['bytes']]
      place += entry['bytes']
      found.append(kernels.read(part, Buckets(shape, *entry['buckets'])))
    else:
      stored, nb_bytes = _stored(entry), _nb_stored(entry)
      data = rest[taken : taken + nb_bytes]
      if header.get('by_place'):  # Files of the first edition have none.
        data = np.frombuffer(data, np.uint8).reshape(stored.itemsize, -1).T.tobytes()
      found.append(np.frombuffer(data, stored).reshape(shape).astype(entry['type'], copy=False))
      taken += nb_bytes
  return Packed(header['network'], found)


def _by_place(value: np.ndarray) -> bytes:
  """First bytes of all values, then second ones, and so on: equal ones are nearer to each other."""
  return np.frombuffer(value.tobytes(), np.uint8).reshape(-1, value.itemsize).T.tobytes()


def _stored(entry: dict[str, Any]) -> np.dtype:
  """In what type a weight that is not coded lies in the file."""
  return np.dtype('<f2' if entry.get('half') else entry['type'])


def _nb_stored(entry: dict[str, Any]) -> int:
  return math.prod(entry['shape']) * _stored(entry).itemsize


def _nb_bytes(entry: dict[str, Any]) -> int:
  """What a weight takes, from its shape and type."""
  return math.prod(entry['shape']) * np.dtype(entry.get('type', '<f4')).itemsize


def read(path: str | os.PathLike) -> Packed:
  """What a .dc file holds.

  Raises:
    UserError: it is missing, no such file, cut off or damaged.
  """
  path = Path(path).expanduser()
  if not path.is_file():
    raise UserError(f'{path} does not exist: {_REMEDY}.')
  return unpack(path.read_bytes(), path)
