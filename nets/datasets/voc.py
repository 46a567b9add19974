"""PASCAL VOC: images with boxes of 20 classes, from the folders of the development kit."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from secateurs.nets.datasets.box_augmentation import SSD
from secateurs.nets.datasets.boxed_images import BoxedImages
from secateurs.nets.datasets.boxed_split import BoxedSplit, make_split, object_rows
from secateurs.nets.datasets.locate import data_folder
from secateurs.nets.datasets.pixels import PREPROCESSINGS
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.config import option
from secateurs.utils.errors import UserError

CLASSES = (
  'aeroplane',
  'bicycle',
  'bird',
  'boat',
  'bottle',
  'bus',
  'car',
  'cat',
  'chair',
  'cow',
  'diningtable',
  'dog',
  'horse',
  'motorbike',
  'person',
  'pottedplant',
  'sheep',
  'sofa',
  'train',
  'tvmonitor',
)


@dataclasses.dataclass(frozen=True)
class VocConfig(DataConfig):
  """PASCAL VOC: folder, image lists and image size."""

  image_size: int = option(300, 'Height and width of the images, in pixels.', low=32)
  voc_train: str = option(
    'VOC2007/trainval,VOC2012/trainval',
    'Lists of training images, YEAR/LIST for each file YEAR/ImageSets/Main/LIST.txt of the folder.',
  )
  voc_eval: str = option('VOC2007/test', 'Lists of evaluation images, in the same way.')
  preprocess: str = option(
    'torch',
    'Normalisation of pixels that the weights need: torch ((x / 255 - mean) / std), tf (x / 127.5 - 1) '
    'or caffe (BGR, mean subtracted).',
    choices=PREPROCESSINGS,
  )


def load(config: VocConfig) -> BoxedImages:
  """Reads ImageSets, Annotations and the headers of JPEGImages; these are read in training.

  Difficult objects are learned, but count neither as found nor as missed (Liu et al. 2016). Corners are
  pixels counted from one, both of them part of the box.

  Raises:
    UserError: no folder is named, a file is missing or damaged, or there are too few images.
  """
  named = data_folder('voc', config.data_dir_local)
  if named is None:
    raise UserError(
      'No folder of PASCAL VOC was named: give --data_dir_local DIR with the folders VOC2007 and '
      'VOC2012 of the development kit.'
    )
  root = named[0]
  if (root / 'VOCdevkit').is_dir():
    root = root / 'VOCdevkit'
  train = _split(root, 'voc_train', config.voc_train)
  evaluation = _split(root, 'voc_eval', config.voc_eval)
  if not evaluation.has_objects:
    raise UserError(
      f'No image of --voc_eval {config.voc_eval!r} has an object that is not difficult, but some were '
      'expected: name another list.'
    )
  data = BoxedImages(
    'voc', config.image_size, CLASSES, train, evaluation, config, SSD, preprocess=config.preprocess
  )
  data.check_files()
  return data


def _split(root: Path, flag: str, lists: str) -> BoxedSplit:
  paths, objects, pixels = [], [], []
  for name in filter(None, (part.strip() for part in lists.split(','))):
    year, _, chosen = name.partition('/')
    path = root / year / 'ImageSets' / 'Main' / f'{chosen}.txt'
    if not path.is_file():
      raise UserError(
        f'--{flag} names {name}, but there is no {path}: unpack that year into {root}, or name other '
        f'lists, such as --{flag}=VOC2012/val.'
      )
    for line in path.read_text(encoding='utf-8', errors='replace').split('\n'):
      if line.strip():
        number = line.split()[0]
        rows, area = _annotation(root / year / 'Annotations' / f'{number}.xml')
        paths.append(str(root / year / 'JPEGImages' / f'{number}.jpg'))
        objects.append(rows)
        pixels.append(area)
  if not paths:
    raise UserError(f'--{flag} {lists!r} lists no image: name a list that is not empty.')
  return make_split(paths, objects, np.array(pixels))


_MOST_PIXELS = 1 << 20  # Of a side.


def _annotation(path: Path) -> tuple[np.ndarray, float]:
  """Objects of one image, [m, 8], and its area in pixels."""
  try:
    root = ET.fromstring(path.read_bytes())
    height, width = (int(root.findtext(f'size/{side}')) for side in ('height', 'width'))
    boxes, classes, difficult = [], [], []
    for thing in root.iter('object'):
      low, high = (
        [float(thing.findtext(f'bndbox/{axis}{end}')) for axis in 'yx'] for end in ('min', 'max')
      )
      if low[0] > high[0] or low[1] > high[1]:
        raise ValueError(f'a box from {low} to {high}')
      boxes.append([low[0] - 1, low[1] - 1, high[0], high[1]])
      classes.append(CLASSES.index(thing.findtext('name')))
      difficult.append(thing.findtext('difficult', '0').strip() == '1')
    if min(height, width) < 1 or max(height, width) > _MOST_PIXELS or not np.isfinite(boxes).all():
      raise ValueError(f'sides of {height} and {width} pixels, boxes {boxes}')
  except (OSError, ET.ParseError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is no annotation of PASCAL VOC ({error}), but size, name and bndbox of each object were '
      'expected: unpack the data set again.'
    ) from error
  sides = np.array([height, width, height, width])
  boxes = np.array(boxes).reshape(-1, 4) / sides
  return object_rows(boxes.clip(0, 1), classes, height * width, difficult), height * width
