"""The file of a detector that ends in detections: decoding and suppression are part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from secateurs.utils.deploy.files.convert import convert, freeze
from secateurs.utils.deploy.files.export_files import Job
from secateurs.utils.deploy.files.parity import Parity, compare_outputs, require_parity
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel

_SCORE = 4
_NB_COMPARED = 8


def write_detections(
  job: Job, partial: Path, name: str, find: Callable[[tf.Tensor], tf.Tensor]
) -> Parity:
  """Writes a float .tflite file for one image at a time, and compares the scores of its detections.

  Scores are compared in falling order: two detections of nearly equal scores may change places.

  Args:
    job: the model and the images to compare on.
    partial: where to write.
    name: what messages call the file.
    find: detections [1, k, 6] from the model's output for one image, in TensorFlow Lite's operations.

  Raises:
    ParityError: the file sees something else than the model.
  """

  def detect(images: tf.Tensor, training: bool = False) -> tf.Tensor:
    return find(job.model(images, training=training))

  partial.write_bytes(convert(freeze(detect, job.specs, batch=1), job.model.name))
  singles = [job.images[i : i + 1] for i in range(min(len(job.images), _NB_COMPARED))]
  wanted = np.concatenate([detect(one).numpy() for one in singles])
  file = TFLiteModel(partial)
  found = np.concatenate([file.predict(one) for one in singles]).reshape(wanted.shape)
  parity = compare_outputs(wanted[..., _SCORE], found[..., _SCORE], None, lambda *_: None)
  return require_parity(name, parity)
