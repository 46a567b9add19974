"""Image files that cannot be used are named before any training."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

from secateurs.nets.datasets.png_limits import MAX_MILLIONS
from secateurs.utils.errors import UserError

_NB_CHECKERS = 8
_FORMATS = ('JPEG', 'MPO', 'PNG')  # MPO: a JPEG with others after it, as many telephones write.


def check_images(paths: list[str]) -> None:
  """Reads the files' headers, so that a bad file is reported before training.

  Raises:
    UserError: a file is not an image that can be read.
  """
  with warnings.catch_warnings(), ThreadPoolExecutor(_NB_CHECKERS) as pool:
    warnings.simplefilter('ignore')  # Of the library, about sizes that are judged here.
    for path, problem in zip(paths, pool.map(_problem, paths), strict=True):
      if problem:
        raise UserError(
          f'{path} is not a usable image ({problem}): a JPEG or PNG file was expected, fix or '
          'delete it.'
        )


def _problem(path: str) -> str | None:
  from PIL import Image, UnidentifiedImageError

  if not os.path.isfile(path):  # Reading a pipe would never end.
    return 'it is no file' if os.path.lexists(path) else 'it is gone'
  try:
    with Image.open(path) as image:
      if image.format not in _FORMATS:
        return f'its content is {image.format}'
      if image.mode == 'CMYK':
        return 'its colours are CMYK, convert it to RGB'
      millions = image.width * image.height / 1e6
      if image.format == 'PNG' and millions > MAX_MILLIONS:
        return f'it has {millions:.0f} million pixels, but at most {MAX_MILLIONS} million are read'
  except UnidentifiedImageError:
    return 'its content is not an image'
  except Image.DecompressionBombError:
    return f'it has over {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels, which are not read'
  except Exception as error:  # Of many types, for what is damaged.
    return ' '.join(str(error).split())[:200] or type(error).__name__
  return None
