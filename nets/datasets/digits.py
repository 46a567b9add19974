"""The 1,797 handwritten digits that come with scikit-learn, as 32x32 RGB images; works offline."""

from __future__ import annotations

import numpy as np

from secateurs.nets.datasets.images import ImageDataset
from secateurs.nets.datasets.pixels import Augmentation
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.datasets.splits import Split, hold_out

_SIZE = 32
_NB_EVAL = 360
_SPLIT_SEED = 0


def load(config: DataConfig) -> ImageDataset:
  """Loads the digits: 1,437 training and 360 evaluation images, always the same split.

  The 8x8 images (17 grey levels) are resized bilinearly. Training shifts them by up to 2 pixels and
  does not mirror them, because a mirrored digit is not a digit.
  """
  from PIL import Image
  from sklearn.datasets import load_digits

  grey, labels = load_digits(return_X_y=True)
  grey = np.round(grey.reshape(-1, 8, 8) * (255.0 / 16.0)).astype(np.uint8)
  resized = np.stack(
    [np.asarray(Image.fromarray(g).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)) for g in grey]
  )
  images = np.repeat(resized[..., None], 3, axis=-1)
  order = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
  everything = Split(images, labels.astype(np.int32))
  train, evaluation = everything.take(order[_NB_EVAL:]), everything.take(order[:_NB_EVAL])
  names = ('train', 'val', 'eval')
  splits = dict(zip(names, hold_out(train, evaluation, config), strict=True))
  classes = [str(digit) for digit in range(10)]
  return ImageDataset('digits', (_SIZE, _SIZE, 3), classes, splits, Augmentation(pad=2))
