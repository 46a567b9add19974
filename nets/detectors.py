"""What an experiment with a detector needs: its task, and weights of a classifier for its backbone."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tf_keras as keras

from secateurs.nets.datasets.boxed_images import BoxedImages
from secateurs.nets.ssd import Detector
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError
from secateurs.utils.training.models.weight_files import read_weights
from secateurs.utils.training.models.weights import named_weights
from secateurs.utils.training.tasks.detection import METRICS, Detection

_METRIC_OF = {'voc': 'voc2007'}


@dataclasses.dataclass(frozen=True)
class DetectionConfig(Config):
  """Detection: score and exported file."""

  detection_metric: str | None = option(
    None,
    'Mean average precision that judges: coco (IoU of 0.5 to 0.95), voc2007 (11 points, IoU of 0.5) or '
    "voc2012 (area, IoU of 0.5); default: that of the data set's own evaluation.",
    choices=METRICS,
  )
  enbl_nms: bool = option(
    True,
    'Export a file _nms.tflite, too, whose output is detections, with suppression inside.',
    affects_result=False,
  )


def task_of(detector: Detector, data: BoxedImages, config: DetectionConfig) -> Detection:
  """The task of a detector on a data set."""
  metric = config.detection_metric or _METRIC_OF.get(data.name, 'coco')
  return Detection(detector.anchors, data.class_names, metric, exports_detections=config.enbl_nms)


def builder(
  detector: Detector, data: BoxedImages, backbone_path: str | None = None
) -> Callable[[], keras.Model]:
  """A function that builds the network, with a classifier's weights in its backbone if there are any.

  Raises:
    UserError: the images do not have the size of the default boxes, or the file has no such weights.
  """
  size = detector.anchors.image_size
  if data.image_shape[0] != size:
    raise UserError(
      f'{detector.name} takes images of {size}x{size}, but those of {data.name} are '
      f'{data.image_shape[0]}x{data.image_shape[1]}: leave --image_size out.'
    )
  build = functools.partial(detector.build, data.image_shape, data.nb_classes)
  if backbone_path is None:
    return build
  weights = detector.own_weights(read_weights(backbone_path))

  def with_backbone() -> keras.Model:
    model = build()
    known = {
      name: variable
      for name, variable in named_weights(model).items()
      if np.shape(weights.get(name)) == tuple(variable.shape) and name in weights
    }
    if not known:
      raise UserError(
        f'--ssd_backbone_path {backbone_path} has no weight of {detector.name} ({len(weights)} others, '
        f'such as {next(iter(weights), "none")}): give a classifier with that backbone.'
      )
    for name, variable in known.items():
      variable.assign(weights[name])
    return model

  return with_backbone
