"""COCO: images with boxes of 80 classes, from its folders and instances_*.json."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.nets.datasets.box_augmentation import SSD
from secateurs.nets.datasets.boxed_images import BoxedImages
from secateurs.nets.datasets.boxed_split import BoxedSplit, make_split, object_rows
from secateurs.nets.datasets.locate import data_folder
from secateurs.nets.datasets.pixels import PREPROCESSINGS
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.config import option
from secateurs.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class CocoConfig(DataConfig):
  """COCO: folder, splits and image size."""

  image_size: int = option(300, 'Height and width of the images, in pixels.', low=32)
  coco_train: str = option(
    'train2017',
    'Training split: folder of images, whose annotations are annotations/instances_SPLIT.json.',
  )
  coco_eval: str = option('val2017', 'Evaluation split, in the same way.')
  preprocess: str = option(
    'torch',
    'Normalisation of pixels that the weights need: torch ((x / 255 - mean) / std), tf (x / 127.5 - 1) '
    'or caffe (BGR, mean subtracted).',
    choices=PREPROCESSINGS,
  )


def load(config: CocoConfig) -> BoxedImages:
  """Reads the annotations and the images' headers; images are read in training.

  Classes are the file's categories in the order of their numbers. Training skips images without objects
  and does not learn crowds; evaluation has every image.

  Raises:
    UserError: no folder is named, a file is missing or damaged, or there are too few images.
  """
  named = data_folder('coco', config.data_dir_local)
  if named is None:
    raise UserError(
      'No folder of COCO was named: give --data_dir_local DIR with annotations, train2017 and val2017.'
    )
  root = named[0]
  classes, train = _split(root, 'coco_train', config.coco_train)
  names, evaluation = _split(root, 'coco_eval', config.coco_eval)
  if classes != names:
    raise UserError(
      f'The categories of {config.coco_train} and {config.coco_eval} differ, but the same ones were '
      'expected: name splits of one data set with --coco_train and --coco_eval.'
    )
  for split, flag in ((train, 'coco_train'), (evaluation, 'coco_eval')):
    if not split.has_objects:
      raise UserError(
        f'No image of {getattr(config, flag)} has a box that counts, but boxes were expected: the '
        f'image_id of annotations must be the id of images in its file, or name another --{flag}.'
      )
  train = train.take(np.flatnonzero(np.diff(train.offsets)))
  data = BoxedImages(
    'coco',
    config.image_size,
    classes,
    train,
    evaluation,
    config,
    SSD,
    learns_ignored=False,
    preprocess=config.preprocess,
  )
  data.check_files()
  return data


_MOST_PIXELS = 1 << 20  # Of a side.


def _split(root: Path, flag: str, name: str) -> tuple[list[str], BoxedSplit]:
  """Names of the classes, and the split."""
  path = root / 'annotations' / f'instances_{name}.json'
  if not path.is_file():
    raise UserError(
      f'--{flag} names {name}, but there is no {path}: unpack it into {root}, or name another split.'
    )
  try:
    content = json.loads(path.read_bytes())
    return _parsed(content, root / name)
  except (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    OverflowError,
  ) as error:
    raise UserError(
      f'{path} is no file of COCO annotations ({type(error).__name__}: {error}), but images, '
      'categories and annotations were expected: correct it, or unpack the data set again.'
    ) from error


def _require(annotation: dict[str, Any], number: int, fields: Sequence[str]) -> None:
  for field in fields:
    if field not in annotation:
      raise ValueError(f'annotation {annotation.get("id", number)} has no {field}')


def _parsed(content: dict[str, Any], folder: Path) -> tuple[list[str], BoxedSplit]:
  categories = sorted(content['categories'], key=lambda one: one['id'])
  for one in categories:
    one['name'].encode()  # Half of a pair, as JSON can have it, could not be written to a report.
  place = {one['id']: number for number, one in enumerate(categories)}
  of_image = collections.defaultdict(list)
  for number, one in enumerate(content['annotations']):
    _require(one, number, ('image_id',))
    of_image[one['image_id']].append((number, one))
  paths, objects, pixels = [], [], []
  for image in sorted(content['images'], key=lambda one: one['id']):
    height, width = image['height'], image['width']
    rows = [one for _, one in of_image[image['id']]]
    for number, one in of_image[image['id']]:
      _require(one, number, ('bbox', 'category_id'))
      if one['category_id'] not in place:
        raise ValueError(
          f'annotation {one.get("id", number)} has the category_id {one["category_id"]!r}, which no '
          'category has'
        )
    if not all(isinstance(side, int) and 0 < side <= _MOST_PIXELS for side in (height, width)):
      raise ValueError(f'image {image["id"]} is {height!r} x {width!r} pixels')
    if not np.isfinite([one['bbox'] for one in rows]).all():
      raise ValueError(f'a box of image {image["id"]} is not finite')
    areas = [one.get('area', 0) for one in rows]
    if not np.isfinite(areas).all() or min(areas, default=0) < 0:
      raise ValueError(f'an area of image {image["id"]} is none')
    given = [one for one in rows if min(one['bbox'][2:]) > 0]
    x, y, w, h = np.array([one['bbox'] for one in given], np.float64).reshape(-1, 4).T
    boxes = np.stack([y / height, x / width, (y + h) / height, (x + w) / width], -1)
    paths.append(str(folder / image['file_name']))
    objects.append(
      object_rows(
        boxes,
        np.array([place[one['category_id']] for one in given]),
        height * width,
        np.array([one.get('iscrowd', 0) for one in given]),
        np.array([one.get('area', one['bbox'][2] * one['bbox'][3]) for one in given]),
      )
    )
    pixels.append(height * width)
  return [one['name'] for one in categories], make_split(paths, objects, np.array(pixels))
