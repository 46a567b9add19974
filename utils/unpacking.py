"""What a file would take when it is unpacked, before that is done."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from secateurs.utils import memory
from secateurs.utils.errors import UserError

if TYPE_CHECKING:
  import tensorflow as tf

_OF_MODELS = re.compile(
  r'(config|metadata)\.json|(model\.weights|variables)(_\d+)?\.(h5|npz|json)|assets(/.*)?',
  re.DOTALL,
)
_NB_IN_MEMORY = 3  # Entries up to which an archive is read without being unpacked.


def require_room(size: int, name: str | os.PathLike, free: int | None = None) -> None:
  """Checks that so many bytes fit into the memory that is free.

  Args:
    size: of what is in the file, unpacked.
    name: of the file.
    free: bytes that are free; default: as the system says now.

  Raises:
    UserError: they do not.
  """
  if size > (free := memory.free() if free is None else free):
    raise UserError(
      f'{name} holds {size >> 20} MB when it is unpacked, but {free >> 20} MB of memory are free: use '
      'it on a machine with more memory, or not at all if it should be small.'
    )


def check_archive(path: str | os.PathLike, name: str | os.PathLike | None = None) -> None:
  """Checks that all entries of a zip archive fit into memory together; any other file passes.

  Entries are never longer than the archive says: zipfile reads no further.

  Raises:
    UserError: they do not.
    zipfile.BadZipFile: it is damaged.
  """
  if os.path.isfile(path) and zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      require_room(sum(entry.file_size for entry in archive.infolist()), name or path)


def check_model_archive(path: str | os.PathLike, name: str | os.PathLike | None = None) -> None:
  """Checks a .keras file as `check_archive` does, its entries, and the room for temporary files.

  tf_keras unpacks all of an archive that has more entries than a model needs, whatever they are. Files
  that are no zip archives pass.

  Raises:
    UserError: it holds something else, or more than there is room for.
    zipfile.BadZipFile: it is damaged.
  """
  check_archive(path, name)
  if not os.path.isfile(path) or not zipfile.is_zipfile(path):
    return
  with zipfile.ZipFile(path) as archive:
    entries = archive.infolist()
  for entry in entries:
    if not _OF_MODELS.fullmatch(entry.filename) or '..' in entry.filename.split('/'):
      raise UserError(
        f'{name or path} holds the entry {entry.filename[:200]!r}, but config.json, metadata.json, '
        'model.weights.h5 and assets alone were expected of a .keras file: save the model again.'
      )
  size, folder = sum(entry.file_size for entry in entries), tempfile.gettempdir()
  if len(entries) > _NB_IN_MEMORY and size > (free := shutil.disk_usage(folder).free):
    raise UserError(
      f'{name or path} is unpacked to {size >> 20} MB in {folder}, but {free >> 20} MB are free there: '
      'free some, or set TMPDIR to another folder.'
    )


@contextlib.contextmanager
def limited_variables(name: str | os.PathLike) -> Iterator[None]:
  """Counts the variables of the network that is built inside, before each of them is made.

  A config of a few bytes can have layers of any size.

  Args:
    name: of the file that the config is from.

  Raises:
    UserError: they do not fit into memory together.
  """
  import tensorflow as tf

  taken, free, problem = 0, memory.free(), None

  def counted(make: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
    nonlocal taken, problem
    taken += _variable_bytes(options)
    try:
      require_room(taken, name, free)
    except UserError as error:
      problem = error
      raise
    return make(**options)

  try:
    with tf.variable_creator_scope(counted):
      yield
  except Exception as error:
    raise problem or error from None  # Layers add to the text of what is raised in their calls.


def _variable_bytes(options: Mapping[str, Any]) -> int:
  """What a variable will take, by the arguments that it is made with; 0 where these do not say."""
  import tensorflow as tf

  shape = options.get('shape')
  if shape is None and inspect.isfunction(first := options.get('initial_value')):
    # Keras 3 gives the function of a variable instead.
    known = inspect.getclosurevars(first).nonlocals.get('self')
    shape = getattr(known, '_shape', None)
  if shape is None:
    return 0
  form = tf.as_dtype(options.get('dtype') or tf.float32)
  return form.size * (tf.TensorShape(shape).num_elements() or 0)


def inflated(data: bytes, limit: int) -> bytes:
  """What zlib has compressed.

  Args:
    data: compressed.
    limit: the most bytes that it may give.

  Raises:
    ValueError: more come, or the limit is below zero.
    zlib.error: it is damaged.
  """
  if limit < 0:  # zlib takes -1 + 1 for no limit.
    raise ValueError(f'{limit} is no number of bytes')
  unpacker = zlib.decompressobj()
  found = unpacker.decompress(data, limit + 1)
  if len(found) > limit:
    raise ValueError(f'more than {limit} bytes are in it')
  if not unpacker.eof:
    raise zlib.error('it is cut off')
  return found
