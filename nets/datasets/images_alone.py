"""Images without labels: DIR/*.jpg|png, or DIR/train and DIR/val with images inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secateurs.nets.datasets.file_names import FileNames, names_in
from secateurs.nets.datasets.image_folder import (
  SUFFIXES,
  ImageFolderConfig,
  held_out_folder,
  held_out_names,
  of_files,
)
from secateurs.nets.datasets.images import ImageDataset
from secateurs.nets.datasets.locate import data_folder
from secateurs.nets.datasets.splits import Split
from secateurs.utils.errors import UserError

_LEAST = 2


def load(
  config: ImageFolderConfig, shape: tuple[int, int, int], preprocess: str = 'torch'
) -> ImageDataset:
  """Loads a folder of images as one class, which `nets.unlabelled` replaces by decisions.

  If DIR/train and DIR/val (or DIR/test) exist, they are the splits; otherwise a fifth evaluates, chosen
  by a hash of the file name. See `image_folder.load` for what is read and checked.

  Raises:
    UserError: no folder is named, it has too few images, or a file is not an image.
  """
  named = data_folder('images', config.data_dir_local)
  if named is None:
    raise UserError(
      'No folder of images was named: give --data_dir_local DIR, where DIR holds .jpg or .png files.'
    )
  root = named[0]
  held_out = held_out_folder(root)
  if held_out is not None:
    train, evaluation = _split(root / 'train'), _split(held_out)
  else:
    names = _names(root)
    held = held_out_names(names)
    train, evaluation = _split(root, names[~held]), _split(root, names[held])
  return of_files('images', ['image'], train, evaluation, config, shape, preprocess)


def _split(folder: Path, names: np.ndarray | None = None) -> Split:
  named = FileNames.of([(folder, _names(folder) if names is None else names)])
  return Split(named, np.zeros(len(named), np.int32))


def _names(folder: Path) -> np.ndarray:
  names = names_in(folder, SUFFIXES)
  if len(names) < _LEAST:
    raise UserError(
      f'{folder} has {len(names)} {", ".join(SUFFIXES)} files, but at least {_LEAST} were expected, '
      'one to train with and one to evaluate with: add images.'
    )
  return names
