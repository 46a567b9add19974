"""Exported files of networks that were exported before: the original of several runs and learners.

What was exported is found again by a fingerprint of all that the files follow from: architecture,
weights, images, versions. The least recently used ones go when all take more than 4 GB.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy.files.export import Export, ExportedFile
from secateurs.utils.deploy.files.export_files import ENDINGS
from secateurs.utils.deploy.files.parity import Parity
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path, user_cache

_MAX_BYTES = 4 << 30
_LEAST_SECONDS = 5.0  # An export that takes less is as quickly made again.
_RECORD = 'export.json'


def fingerprint(model: keras.Model, int8: bool, images: Any) -> str:
  """A hash of all that the exported files follow from.

  Args:
    model: what is exported.
    int8: whether there is a full-integer file.
    images: those that files are compared on, and from which integer ranges come.
  """
  import tensorflow as tf

  digest = hashlib.sha256(model.to_json().encode())
  digest.update(repr((tf.__version__, keras.__version__, *_versions(), int8)).encode())
  for weight in model.weights:
    digest.update(np.ascontiguousarray(weight.numpy()))
  for part in nested.parts(images):
    digest.update(np.ascontiguousarray(part))
  return digest.hexdigest()[:32]


def _versions() -> list[str | None]:
  """Of this project and of the runtime, whose figures are kept with the files."""
  found: list[str | None] = []
  for name in ('secateurs', 'ai-edge-litert'):
    try:
      found.append(metadata.version(name))
    except metadata.PackageNotFoundError:
      found.append(None)
  return found


def find(key: str, prefix: Path) -> Export | None:
  """Puts the files of an earlier export in place; None where there is none that is whole."""
  folder = _folder()
  if folder is None:
    return None
  folder /= key
  try:
    record = json.loads((folder / _RECORD).read_text(encoding='utf-8'))
    files = {kind: _file(prefix, kind, values) for kind, values in record.pop('files').items()}
    whole = all((folder / kind).stat().st_size == file.bytes for kind, file in files.items())
  except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return None
  if not whole:
    return None
  with contextlib.ExitStack() as stack:
    try:  # Another process may remove the folder now; what is open stays whole.
      sources = {kind: stack.enter_context((folder / kind).open('rb')) for kind in files}
    except OSError:
      return None
    for kind, file in files.items():
      with atomic_path(file.path) as partial, partial.open('wb') as target:
        shutil.copyfileobj(sources[kind], target)
  with contextlib.suppress(OSError):
    os.utime(folder)
  optional = {kind: files.get(kind) for kind in ('pb', 'tflite_int8', 'tflite_sparse')}
  named = {kind: files[kind] for kind in ('keras', 'tflite')}
  return Export(**named, **optional, further={}, **{'left_out': {}, 'notes': [], **record})


def keep(key: str, export: Export) -> None:
  """Keeps the files of an export, where it took long; a full disk is no error."""
  root = _folder()
  if root is None or export.seconds < _LEAST_SECONDS or export.further or export.left_out:
    return
  try:
    root.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix='.', dir=root))
    try:
      for kind, file in export.files.items():
        shutil.copyfile(file.path, partial / kind)
      record = {
        'files': {
          kind: {**dataclasses.asdict(file), 'path': None} for kind, file in export.files.items()
        },
        'pb_input': export.pb_input,
        'pb_output': export.pb_output,
        'seconds': export.seconds,
        'notes': export.notes,
      }
      (partial / _RECORD).write_text(json.dumps(record), encoding='utf-8')
      os.rename(partial, root / key)
    finally:
      shutil.rmtree(partial, ignore_errors=True)
    _forget_oldest(root)
  except OSError:
    return


def _folder() -> Path | None:
  try:
    return user_cache() / 'originals'
  except UserError:  # Nothing is kept for a user without a home.
    return None


def _file(prefix: Path, kind: str, values: dict) -> ExportedFile:
  path = prefix.with_name(prefix.name + ENDINGS[kind])
  return ExportedFile(**{**values, 'path': path, 'parity': Parity(**values['parity'])})


def _forget_oldest(root: Path) -> None:
  folders = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: -p.stat().st_mtime)
  total = 0
  for folder in folders:
    total += sum(file.stat().st_size for file in folder.iterdir())
    if total > _MAX_BYTES:
      shutil.rmtree(folder, ignore_errors=True)
