"""What a file weighs, raw and gzipped."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

_GZIP_FORMAT = 31  # zlib's window bits: 15 for the window, 16 for a gzip header and trailer
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileSize:
  """Bytes of a file as it lies on disk, and after gzip."""

  bytes: int
  gzip_bytes: int


def gzip_bytes(path: str | os.PathLike) -> int:
  """Returns the bytes of the file after gzip at level 9.

  zlib writes a header without file name and with time 0, so equal contents give equal sizes.
  """
  packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP_FORMAT)
  size = 0
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK):
      size += len(packer.compress(chunk))
  return size + len(packer.flush())


def file_size(path: str | os.PathLike) -> FileSize:
  """Returns the raw and the gzipped bytes of one file.

  Raises:
    FileNotFoundError: there is no such file.
  """
  return FileSize(bytes=Path(path).stat().st_size, gzip_bytes=gzip_bytes(path))
