"""Image folders: DIR/class_name/*.jpg|png, or DIR/train and DIR/val with such folders inside."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.crops import decode_window, jpeg_shape
from secateurs.nets.datasets.decoding import cannot_be_decoded
from secateurs.nets.datasets.file_names import FileNames, PathTable, names_in
from secateurs.nets.datasets.image_checks import check_images
from secateurs.nets.datasets.images import ImageDataset
from secateurs.nets.datasets.locate import data_folder
from secateurs.nets.datasets.pixels import Augmentation
from secateurs.nets.datasets.png_limits import decode_png
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.datasets.splits import Split, hold_out, spread
from secateurs.utils.config import option
from secateurs.utils.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png')
_EVAL_SHARE = 0.2
_MIN_PER_CLASS = 2
_CACHE_BYTES = 512 << 20
_MAX_CHECKED = 20_000


@dataclasses.dataclass(frozen=True)
class ImageFolderConfig(DataConfig):
  """Image folder: location and image size."""

  image_size: int = option(64, 'Height and width of the images, in pixels.', low=8)


def load(
  config: ImageFolderConfig,
  shape: tuple[int, int, int] | None = None,
  preprocess: str = 'torch',
) -> ImageDataset:
  """Loads a folder of class folders; classes are numbered in the order of their names.

  If DIR/train and DIR/val (or DIR/test) exist, they are the splits. Otherwise a fifth of each class is
  held out for evaluation, chosen by a hash of the file name, so that adding images does not move the
  others. Images are decoded once and kept as uint8 if they fit into 512 MiB; otherwise they are decoded
  each time they are read. Of more than 20,000 files some are checked beforehand, spread evenly.

  Args:
    config: location and image size.
    shape: (height, width, channels), overrides the config; one channel gives grey images.
    preprocess: how pixels are normalised, see `pixels.normalize`.

  Raises:
    UserError: no folder is named, there are no classes, a class is empty, or a file is not an image.
  """
  named = data_folder('image_folder', config.data_dir_local)
  if named is None:
    raise UserError(
      'No image folder was named: give --data_dir_local DIR, where DIR/class_name/ holds .jpg or '
      '.png files.'
    )
  return of_files('image_folder', *_scan(named[0]), config, shape, preprocess)


def of_files(
  name: str,
  classes: list[str],
  train: Split,
  evaluation: Split,
  config: ImageFolderConfig,
  shape: tuple[int, int, int] | None = None,
  preprocess: str = 'torch',
) -> ImageDataset:
  """The data set of image files, checked; see `load`."""
  check_images([*_to_check(train.images), *_to_check(evaluation.images)])
  names = ('train', 'val', 'eval')
  splits = dict(zip(names, hold_out(train, evaluation, config), strict=True))
  shape = shape or (config.image_size, config.image_size, 3)
  augmentation = Augmentation(pad=max(min(shape[:2]) // 8, 1), flip=True)
  decode = _decoder(tuple(shape))
  nb_bytes = sum(len(split) for split in splits.values()) * int(np.prod(shape))
  if nb_bytes > _CACHE_BYTES:
    return ImageDataset(name, shape, classes, splits, augmentation, decode, preprocess=preprocess)
  cached = {kind: _decoded(split, shape, decode) for kind, split in splits.items()}
  return ImageDataset(name, shape, classes, cached, augmentation, preprocess=preprocess)


@functools.lru_cache(maxsize=8)
def _decoder(shape: tuple[int, int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
  """`decode_image` of images of one shape: traced, which takes a third of a second, once."""
  return tf.function(lambda path: decode_image(path, shape), autograph=False)


def decode_image(path: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Reads a JPEG or PNG file as uint8 [height, width, channels].

  Crops the largest central part with this aspect ratio and resizes it bilinearly; a huge JPEG file is
  shrunk while it is decoded.
  """
  rows, columns, channels = shape
  data = tf.io.read_file(path)

  def window(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    side = tf.minimum(height * columns, width * rows)  # Height of the part times `columns`.
    tall, wide = tf.maximum(side // columns, 1), tf.maximum(side // rows, 1)
    return tf.stack([(height - tall) // 2, (width - wide) // 2, tall, wide])

  def jpeg() -> tf.Tensor:
    height, width = tf.unstack(jpeg_shape(data)[:2])
    return decode_window(data, window(height, width), (rows, columns), channels)

  def other() -> tf.Tensor:
    image = decode_png(data, channels)
    return tf.image.crop_to_bounding_box(
      image, *tf.unstack(window(tf.shape(image)[0], tf.shape(image)[1]))
    )

  part = tf.cond(tf.io.is_jpeg(data), jpeg, other)
  resized = tf.image.resize(part, [rows, columns], antialias=True)
  pixels = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
  return tf.ensure_shape(pixels, shape)


def _scan(root: Path) -> tuple[list[str], Split, Split]:
  """Class names, training files and evaluation files."""
  held_out = held_out_folder(root)
  if held_out is not None:
    classes, train = _class_folders(root / 'train')
    eval_classes, evaluation = _class_folders(held_out)
    if classes != eval_classes:
      differing = sorted(set(classes) ^ set(eval_classes))
      raise UserError(
        f'{root / "train"} and {held_out} must have the same class folders, but only one of them '
        f'has {", ".join(differing)}: add the missing folders or delete the surplus ones.'
      )
    return classes, _as_split(train), _as_split(evaluation)
  classes, files = _class_folders(root)
  train, evaluation = [], []
  for root_of_class, names in files:
    if len(names) < _MIN_PER_CLASS:
      raise UserError(
        f'{root_of_class} has {len(names)} image, but at least {_MIN_PER_CLASS} were expected, one to '
        'train with and one to evaluate with: add images or delete the folder.'
      )
    held = held_out_names(names)
    evaluation.append((root_of_class, names[held]))
    train.append((root_of_class, names[~held]))
  return classes, _as_split(train), _as_split(evaluation)


def held_out_folder(root: Path) -> Path | None:
  """DIR/val (or validation, or test) beside DIR/train; None without both."""
  found = (root / name for name in ('val', 'validation', 'test'))
  return next((path for path in found if path.is_dir() and (root / 'train').is_dir()), None)


def held_out_names(names: np.ndarray) -> np.ndarray:
  """Which files evaluate, bool [n]: a fifth, by a hash of the name, so that further files move none."""
  order = np.argsort(np.array([hashlib.md5(name).hexdigest() for name in names.tolist()], 'S'))
  held = np.zeros(len(names), bool)
  held[order[: max(round(len(names) * _EVAL_SHARE), 1)]] = True
  return held


def _class_folders(root: Path) -> tuple[list[str], list[tuple[Path, np.ndarray]]]:
  """Names of the classes, and for each its folder and the names of its files."""
  folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
  if len(folders) < 2:
    raise UserError(
      f'{root} has {len(folders)} class folders, but at least 2 were expected: put the images of '
      'each class into a separate folder, DIR/class_name/*.jpg or *.png.'
      + (' Images alone, without labels, lie in the folder itself.' if folders else '')
    )
  files = []
  for folder in folders:
    if not _is_text(folder.name):
      raise UserError(
        f'{str(folder)!r} names a class in bytes that are no UTF-8, but classes have names in UTF-8: '
        'rename the folder.'
      )
    names = names_in(folder, SUFFIXES)
    if not len(names):
      raise UserError(
        f'{folder} has no {", ".join(SUFFIXES)} files, but each class needs some: add images or '
        'delete the folder.'
      )
    files.append((folder, names))
  return [folder.name for folder in folders], files


def _is_text(name: str) -> bool:
  """Whether a name of the file system can be written to reports."""
  try:
    return bool(name.encode())
  except UnicodeEncodeError:
    return False


def _as_split(files: list[tuple[Path, np.ndarray]]) -> Split:
  named = FileNames.of(files)
  return Split(named, named.folder)


def _to_check(files: FileNames) -> list[str]:
  """The files whose headers are read before any training: all, or some spread over a huge folder."""
  return [files[i] for i in spread(len(files), _MAX_CHECKED).tolist()]


def _decoded(split: Split, shape: tuple[int, int, int], decode) -> Split:  # noqa: ANN001
  images = np.empty((len(split), *shape), np.uint8)
  paths = PathTable(split.images)
  files = tf.data.Dataset.range(len(split))
  decoder = iter(
    files.map(lambda i: decode(paths[i]), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
  )
  for index, path in enumerate(split.images):
    try:
      images[index] = next(decoder).numpy()
    except tf.errors.OpError as error:  # Also where it is gone meanwhile.
      raise cannot_be_decoded(path) from error
  return Split(images, split.labels)
