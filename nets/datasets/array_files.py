"""Arrays of any task from files: train.npz and test.npz in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.npz_files import read_npy, read_npz

ALONE = ('.npy', '.npz')
"""Endings of single files."""

_KINDS = {'x': 'inputs', 'y': 'targets', 'w': 'weights of samples'}


def load(folder: str | Path | None) -> tuple[tuple, tuple | None]:
  """Training and evaluation data, each (inputs, targets) or (inputs, targets, weights).

  A file holds the arrays `x`, `y` and, if samples have weights, `w`; for several inputs or outputs
  `x_<input>` and `y_<output>`, by their names. Without any `y` in it a file gives inputs alone. A
  single file of inputs alone, .npy or .npz, may stand in place of the folder; then, and where there is
  no test.npz beside such inputs, there is no evaluation data.

  Raises:
    UserError: a file or an array is missing.
  """
  if folder is None:
    raise UserError(
      '--data_set arrays needs the folder of train.npz and test.npz: give --data_dir_local DIR.'
    )
  root = Path(folder).expanduser()
  if root.suffix in ALONE and root.is_file():
    return (_inputs(root),), None
  paths = [root / f'{name}.npz' for name in ('train', 'test')]
  if paths[0].is_file() and not paths[1].is_file() and len(found := _read(paths[0])) == 1:
    return found, None
  found = [_read(path) for path in paths]
  alone = [len(one) == 1 for one in found]
  if any(alone) and not all(alone):
    raise _lacking(paths[alone.index(True)], 'x', 'y')
  return tuple(found)


def _inputs(path: Path) -> np.ndarray:
  """The only array of a file, which is no folder of train.npz and test.npz."""
  if path.suffix == '.npy':
    return read_npy(path)
  arrays = read_npz(path)
  if len(arrays) == 1:
    return next(iter(arrays.values()))
  raise UserError(
    f'{path} holds {", ".join(arrays) or "nothing"}, but the inputs alone, as one array, were expected '
    'of a single file: name the folder of train.npz and test.npz, which may have labels.'
  )


def _read(path: Path) -> tuple[Any, ...]:
  if not path.is_file():
    raise UserError(
      f'{path} does not exist: write it with numpy.savez({path.name!r}, x=..., y=...).'
    )
  arrays = read_npz(path)
  parts = {kind: _part(arrays, kind) for kind in _KINDS}
  if parts['y'] is None and parts['w'] is None and isinstance(parts['x'], np.ndarray):
    return (parts['x'],)
  for kind in ('x', 'y'):
    if parts[kind] is None:
      raise _lacking(path, ', '.join(arrays), kind)
  return tuple(part for part in parts.values() if part is not None)


def _lacking(path: Path, held: str, kind: str) -> UserError:
  return UserError(
    f'{path} holds {held or "nothing"}, but {kind} ({_KINDS[kind]}), or {kind}_<name> for several, was '
    'expected: write it with numpy.savez.'
  )


def _part(arrays: dict[str, np.ndarray], kind: str) -> Any:
  if kind in arrays:
    return arrays[kind]
  named = {k.removeprefix(f'{kind}_'): v for k, v in arrays.items() if k.startswith(f'{kind}_')}
  return named or None
