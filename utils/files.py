"""Files that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from secateurs.utils.errors import UserError


def user_cache() -> Path:
  """The folder below which the project keeps what it has fetched or counted once.

  Raises:
    UserError: the user has no home folder.
  """
  try:
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
  except RuntimeError as error:
    raise UserError(
      'No home folder is known to keep files in, but HOME or XDG_CACHE_HOME was expected to name '
      'one: set XDG_CACHE_HOME to a writable folder.'
    ) from error
  return Path(root) / 'secateurs'


def partial_path(path: str | os.PathLike) -> Path:
  """Returns the name in the same folder under which `path` is written until it is whole.

  The suffix is kept (writers choose their format by it) and the name never varies, so that a
  killed run leaves at most one such file and the next run overwrites it.
  """
  path = Path(path)
  return path.with_name(f'.{path.stem}.partial{path.suffix}')


@contextlib.contextmanager
def explain_os_errors(folder: str | os.PathLike) -> Iterator[None]:
  """Turns an OSError while writing below `folder` into one sentence for the user.

  Raises:
    UserError: the folder cannot be made or written, or the disk is full.
  """
  try:
    yield
  except OSError as error:
    reason = error.strerror or str(error)
    raise UserError(
      f'Cannot write to the folder {Path(folder)} ({reason}); expected a writable folder with '
      'free space: free some, or choose another folder.'
    ) from error


def require_writable(folder: str | os.PathLike) -> None:
  """Makes a folder if need be and tries to write to it.

  Raises:
    UserError: the folder cannot be made or written, its name is no UTF-8, or the disk is full.
  """
  try:
    os.fspath(folder).encode()
  except UnicodeEncodeError as error:
    raise UserError(
      f'The folder {os.fspath(folder)!r} has a name in bytes that are no UTF-8, which TensorFlow '
      'cannot write to: give another one.'
    ) from error
  with explain_os_errors(folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(b'x')


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
  """Yields a partial name to write; renames it to `path` when the block ends without error.

  Raises:
    UserError: the folder cannot be made or written, or the disk is full.
  """
  path = Path(path)
  partial = partial_path(path)
  with explain_os_errors(path.parent):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      yield partial
      os.replace(partial, path)
    except BaseException:
      with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
      raise


def remove(path: Path) -> None:
  """Removes a file, or a folder with all that is in it; nothing where there is none."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
  """Bytes of a file, or of all files in a folder."""
  if path.is_dir():
    return sum(one.stat().st_size for one in path.rglob('*') if one.is_file())
  return path.stat().st_size
