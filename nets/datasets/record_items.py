"""Finds the images and classes of ILSVRC-12 in folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from secateurs.utils.errors import UserError

SUFFIXES = ('.jpeg', '.jpg', '.png')


@dataclasses.dataclass(frozen=True)
class Item:
  """One image: its file, the folder name of its class, and its label (from 1)."""

  path: str
  synset: str
  label: int


def find_items(source: Path, val_labels: Path | None = None) -> dict[str, list[Item]]:
  """Finds train/<class>/* and val/<class>/*, or val/* with the classes in a file.

  Labels number the folders below train in the order of their names, from 1. Names that begin with a
  dot are ignored.

  Args:
    source: the folder with train and val (or validation).
    val_labels: file with the class of each image of a flat val folder, one per line, in the order of
      the images' names.

  Returns:
    Items of `train` and `validation`.

  Raises:
    UserError: a folder is missing or empty, or the classes do not match.
  """
  train = source / 'train'
  val = next((source / n for n in ('val', 'validation') if (source / n).is_dir()), None)
  if not train.is_dir() or val is None:
    raise UserError(f'{source} must contain the folders train and val: give such a folder.')
  synsets = [folder.name for folder in _folders(train)]
  labels = {synset: number for number, synset in enumerate(synsets, 1)}
  if not synsets:
    raise UserError(f'{train} has no folders, but one for each class was expected.')
  found = {'train': _of_folders(train, labels)}
  flat = _images(val)
  found['validation'] = (
    _of_file(val, flat, val_labels, labels) if flat else _of_folders(val, labels)
  )
  return found


def _of_folders(root: Path, labels: dict[str, int]) -> list[Item]:
  folders = _folders(root)
  unknown = [folder.name for folder in folders if folder.name not in labels]
  if unknown:
    raise UserError(
      f'{root} has the class {unknown[0]}, which is not a folder below train: add or delete it.'
    )
  items = [Item(str(p), f.name, labels[f.name]) for f in folders for p in _images(f)]
  if not items:
    raise UserError(f'{root} has no images ({", ".join(SUFFIXES)}): add some.')
  return items


def _of_file(
  root: Path, paths: list[Path], val_labels: Path | None, labels: dict[str, int]
) -> list[Item]:
  if val_labels is None:
    raise UserError(
      f'{root} contains images without class folders: give --val_labels with the class of each image, '
      'or sort them into folders.'
    )
  try:
    synsets = val_labels.read_text(encoding='utf-8').split()
  except OSError as error:
    raise UserError(f'--val_labels {val_labels} cannot be read ({error.strerror}).') from error
  if len(synsets) != len(paths):
    raise UserError(
      f'--val_labels {val_labels} has {len(synsets)} lines, but {root} has {len(paths)} images.'
    )
  unknown = [synset for synset in synsets if synset not in labels]
  if unknown:
    raise UserError(
      f'--val_labels {val_labels} has {unknown[0]}, which is not a folder below train.'
    )
  return [Item(str(p), s, labels[s]) for p, s in zip(paths, synsets, strict=True)]


def _folders(root: Path) -> list[Path]:
  return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))


def _images(folder: Path) -> list[Path]:
  found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
  return sorted(p for p in found if not p.name.startswith('.'))
