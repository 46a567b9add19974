"""Secateurs compresses Keras models.

This folder is the package `secateurs`. The sub-packages are links to the folders at the top of the
repository, so that Python, editors and builds see one ordinary package.
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
  from secateurs.nets.compress import compress as compress

__version__ = '0.2.0'


def __getattr__(name: str) -> object:
  """Loads `compress` when it is first asked for: TensorFlow takes seconds."""
  if name == 'compress':
    from secateurs.nets.compress import compress

    return compress
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
