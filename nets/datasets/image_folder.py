"""Image folders: DIR/class_name/*.jpg|png, or DIR/train and DIR/val with such folders inside."""

from __future__ import annotations

import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.images import Augmentation, DataConfig, ImageDataset, Split, hold_out
from secateurs.nets.datasets.locate import data_folder
from secateurs.utils.config import option
from secateurs.utils.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png')
_EVAL_SHARE = 0.2
_MIN_PER_CLASS = 2
_CACHE_BYTES = 4 << 30
_NB_CHECKERS = 8


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
  others. Images are decoded once and kept as uint8 if they fit into 4 GiB; otherwise they are decoded
  each time they are read.

  Args:
    config: location and image size.
    shape: (height, width, channels), overrides the config; one channel gives grey images.
    preprocess: how pixels are normalised, see `images.normalize`.

  Raises:
    UserError: no folder is named, there are no classes, a class is empty, or a file is not an image.
  """
  named = data_folder('image_folder', config.data_dir_local)
  if named is None:
    raise UserError(
      'No image folder was named: give --data_dir_local DIR, where DIR/class_name/ holds .jpg or '
      '.png files.'
    )
  root = named[0]
  classes, train, evaluation = _scan(root)
  _check_images([*train.images, *evaluation.images])
  names = ('train', 'val', 'eval')
  splits = dict(zip(names, hold_out(train, evaluation, config), strict=True))
  shape = shape or (config.image_size, config.image_size, 3)
  augmentation = Augmentation(pad=max(min(shape[:2]) // 8, 1), flip=True)

  def decode(path: tf.Tensor) -> tf.Tensor:
    return decode_image(path, shape)

  nb_bytes = sum(len(split) for split in splits.values()) * int(np.prod(shape))
  if nb_bytes > _CACHE_BYTES:
    return ImageDataset(
      'image_folder', shape, classes, splits, augmentation, decode, preprocess=preprocess
    )
  cached = {name: _decoded(split, shape, decode) for name, split in splits.items()}
  return ImageDataset('image_folder', shape, classes, cached, augmentation, preprocess=preprocess)


def decode_image(path: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Reads a JPEG or PNG file as uint8 [height, width, channels].

  Crops the largest central part with this aspect ratio and resizes it bilinearly.
  """
  rows, columns, channels = shape
  image = tf.io.decode_image(tf.io.read_file(path), channels=channels, expand_animations=False)
  height, width = tf.shape(image)[0], tf.shape(image)[1]
  side = tf.minimum(height * columns, width * rows)  # Height of the part times `columns`.
  tall, wide = tf.maximum(side // columns, 1), tf.maximum(side // rows, 1)
  part = tf.image.crop_to_bounding_box(image, (height - tall) // 2, (width - wide) // 2, tall, wide)
  resized = tf.image.resize(part, [rows, columns], antialias=True)
  pixels = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
  return tf.ensure_shape(pixels, shape)


def _scan(root: Path) -> tuple[list[str], Split, Split]:
  """Class names, training files and evaluation files."""
  held_out = next((root / n for n in ('val', 'validation', 'test') if (root / n).is_dir()), None)
  if (root / 'train').is_dir() and held_out is not None:
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
  for label, paths in files:
    if len(paths) < _MIN_PER_CLASS:
      raise UserError(
        f'{root / classes[label]} has {len(paths)} image, but at least {_MIN_PER_CLASS} were '
        'expected, one to train with and one to evaluate with: add images or delete the folder.'
      )
    ranked = sorted(paths, key=lambda p: hashlib.md5(p.name.encode()).hexdigest())
    nb_eval = max(round(len(paths) * _EVAL_SHARE), 1)
    evaluation.append((label, sorted(ranked[:nb_eval])))
    train.append((label, sorted(ranked[nb_eval:])))
  return classes, _as_split(train), _as_split(evaluation)


def _class_folders(root: Path) -> tuple[list[str], list[tuple[int, list[Path]]]]:
  folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
  if len(folders) < 2:
    raise UserError(
      f'{root} has {len(folders)} class folders, but at least 2 were expected: put the images of '
      'each class into a separate folder, DIR/class_name/*.jpg or *.png.'
    )
  files = []
  for label, folder in enumerate(folders):
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
      raise UserError(
        f'{folder} has no {", ".join(SUFFIXES)} files, but each class needs some: add images or '
        'delete the folder.'
      )
    files.append((label, paths))
  return [folder.name for folder in folders], files


def _as_split(files: list[tuple[int, list[Path]]]) -> Split:
  paths = [str(path) for _, group in files for path in group]
  labels = [label for label, group in files for _ in group]
  return Split(paths, np.asarray(labels, np.int32))


def _check_images(paths: list[str]) -> None:
  """Reads every file's header, so that a bad file is reported before training."""
  with ThreadPoolExecutor(_NB_CHECKERS) as pool:
    for path, problem in zip(paths, pool.map(_problem, paths), strict=True):
      if problem:
        raise UserError(
          f'{path} is not a usable image ({problem}): a JPEG or PNG file was expected, fix or '
          'delete it.'
        )


def _problem(path: str) -> str | None:
  from PIL import Image, UnidentifiedImageError

  try:
    with Image.open(path) as image:
      if image.format not in ('JPEG', 'PNG'):
        return f'its content is {image.format}'
      if image.mode == 'CMYK':
        return 'its colours are CMYK, convert it to RGB'
  except UnidentifiedImageError:
    return 'its content is not an image'
  except OSError as error:
    return str(error)
  return None


def _decoded(split: Split, shape: tuple[int, int, int], decode) -> Split:  # noqa: ANN001
  images = np.empty((len(split), *shape), np.uint8)
  files = tf.data.Dataset.from_tensor_slices(tf.constant(list(split.images), tf.string))
  decoder = iter(files.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True))
  for index, path in enumerate(split.images):
    try:
      images[index] = next(decoder).numpy()
    except tf.errors.InvalidArgumentError as error:
      raise UserError(
        f'{path} cannot be decoded: a complete JPEG or PNG file was expected, fix or delete it.'
      ) from error
  return Split(images, split.labels)
