"""Detection: boxes and classes of objects, by single-shot detectors with default boxes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.files.detections import write_detections
from secateurs.utils.detection import multibox as mb
from secateurs.utils.detection import precision as ap
from secateurs.utils.detection.anchors import Anchors
from secateurs.utils.detection.boxes import decode
from secateurs.utils.detection.hits import ALL_AREAS, CLASS, coco_pairs, hits_by_class, voc_pairs
from secateurs.utils.detection.suppression import Suppression, suppressed, suppressed_plainly
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks import heads
from secateurs.utils.training.tasks.pictures import NB_PANELS, Picture, boxed
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.task import Task

METRICS = ('coco', 'voc2007', 'voc2012')
_VOC = {'voc2007': ap.voc2007, 'voc2012': ap.voc2012}
_LEAST_SCORE = 1e-3
_BN_MOMENTUM = 0.9
L = keras.layers


class Detection(Task):
  """The multibox loss; mean average precision judges.

  Targets are objects, float [n, m, 8] (see `detection.hits`). Outputs are float
  [n, a, 4 + 1 + classes]: offsets from the default boxes, and logits, the background first.

  Attributes:
    anchors: the default boxes.
    class_names: of the classes without the background.
    metric: `coco` (mean over IoU thresholds of 0.5 to 0.95), `voc2007` or `voc2012` (0.5).
    suppression: how detections are chosen.
  """

  name = 'detection'
  metric_names = ('loss_classes', 'loss_boxes')
  total_types: Mapping[str, tf.DType] = {
    'samples': tf.int64,
    'classes': tf.float64,
    'boxes': tf.float64,
    'matched': tf.float64,
  }
  collects = draws = True
  nb_drawn = NB_PANELS

  def __init__(
    self,
    anchors: Anchors,
    class_names: Sequence[str],
    metric: str = 'coco',
    suppression: Suppression | None = None,
    *,
    exports_detections: bool = True,
  ) -> None:
    """Sets up the task; see the attributes.

    Args:
      anchors: the default boxes.
      class_names: of the classes.
      metric: one of METRICS.
      suppression: default: 100 detections of an image for COCO, 200 for VOC.
      exports_detections: whether a file that ends in detections is exported, too.
    """
    self.anchors, self.class_names, self.metric = anchors, tuple(class_names), metric
    most = 100 if metric == 'coco' else 200
    self.suppression = suppression or Suppression(per_class=most, total=most)
    self._boxes, self._exports_detections = anchors.boxes(), exports_detections
    self._parts: tuple[object, object, mb.Losses] | None = None

  # Training.

  def loss(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Both parts of the multibox loss over the number of matched default boxes of the batch.

    The outputs of auxiliary heads, [n, classes], have the entropy of whether a class occurs.
    """
    if outputs.shape.rank == 2:
      return tf.reduce_mean(self._presence_entropy(targets, outputs))
    losses = self._losses(targets, outputs)
    self._parts = targets, outputs, losses
    return sum(self._means(losses, weights))

  def metrics(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Both parts of the loss."""
    if outputs.shape.rank == 2:
      entropy = tf.reduce_mean(self._presence_entropy(targets, outputs))
      return dict(zip(self.metric_names, (entropy, tf.zeros([])), strict=True))
    parts, self._parts = self._parts, None
    known = parts is not None and parts[0] is targets and parts[1] is outputs
    losses = parts[2] if known else self._losses(targets, outputs)
    return dict(zip(self.metric_names, self._means(losses, weights), strict=True))

  def _losses(self, targets: tf.Tensor, outputs: tf.Tensor) -> mb.Losses:
    boxes, classes = targets[..., :4], tf.cast(targets[..., CLASS], tf.int32)
    return mb.multibox(boxes, classes, outputs[..., :4], outputs[..., 4:], self._boxes)

  def _means(self, losses: mb.Losses, weights: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    each = tf.ones_like(losses.matched) if weights is None else tf.cast(weights, tf.float32)
    matched = tf.maximum(tf.reduce_sum(losses.matched * each), 1.0)
    return tuple(tf.reduce_sum(part * each) / matched for part in (losses.classes, losses.boxes))

  def _presence_entropy(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    kinds = tf.cast(targets[..., CLASS], tf.int32)
    present = tf.reduce_max(tf.one_hot(kinds, logits.shape[-1]), axis=1)
    return tf.nn.sigmoid_cross_entropy_with_logits(present, tf.cast(logits, tf.float32))

  def distillation(self, taught: tf.Tensor, outputs: tf.Tensor, temperature: float) -> tf.Tensor:
    """Soft classes of all default boxes, and boxes where the teacher sees objects.

    (sum_a T^2 KL(teacher_a || student_a) + sum_a f_a smooth_l1(student_a - teacher_a)) / sum_a f_a,
    with f_a the teacher's probability that default box a has an object: the soft form of the matched
    default boxes of Chen et al. 2017, "Learning Efficient Object Detection Models with Knowledge
    Distillation", whose labels are not needed here.
    """
    taught, outputs = tf.cast(taught, tf.float32), tf.cast(outputs, tf.float32)
    if outputs.shape.rank == 2:
      return tf.reduce_mean((taught - outputs) ** 2)
    log_p = tf.nn.log_softmax(taught[..., 4:] / temperature)
    log_q = tf.nn.log_softmax(outputs[..., 4:] / temperature)
    divergence = tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)
    seen = 1 - tf.nn.softmax(taught[..., 4:])[..., mb.BACKGROUND]
    distance = tf.reduce_sum(mb.smooth_l1(outputs[..., :4] - taught[..., :4]), -1)
    total = tf.reduce_sum(temperature**2 * divergence + seen * distance)
    return total / tf.maximum(tf.reduce_sum(seen), 1.0)

  def require_teacher(self, teacher: keras.Model, student: keras.Model) -> None:
    """Both must have the same default boxes and classes."""
    shapes = teacher.output_shape[1:], student.output_shape[1:]
    if shapes[0] != shapes[1]:
      raise UserError(
        f'The teacher of --enbl_dst gives detections of shape {shapes[0]}, but the network gives '
        f'{shapes[1]}: give a teacher with the same default boxes and classes with --save_path_dst.'
      )

  # Judging.

  def totals(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Samples, both parts of the loss, and matched default boxes."""
    del weights
    parts = self._losses(targets, outputs)
    sums = [tf.cast(tf.reduce_sum(part), tf.float64) for part in parts]
    return dict(zip(self.total_types, (tf.shape(outputs, tf.int64)[0], *sums), strict=True))

  def records(self, targets: tf.Tensor, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Detections and objects of each image."""
    return {'detections': self.detections(outputs), 'objects': targets}

  def detections(self, outputs: tf.Tensor) -> tf.Tensor:
    """What a network sees, float32 [n, k, 6]: box, probability, class (-1 where there is none)."""
    outputs = tf.cast(outputs, tf.float32)
    boxes = decode(outputs[..., :4], self._boxes)
    return suppressed(boxes, tf.nn.softmax(outputs[..., 4:])[..., 1:], self.suppression)

  def evaluation(
    self, totals: Mapping[str, float], records: Mapping[str, np.ndarray]
  ) -> Evaluation:
    """mAP judges; figures are those at single thresholds, and the average precision of each class."""
    if self.metric == 'coco':
      score, figures, table = self._judged_by_coco(records)
    else:
      hits = self._hits(records, (0.5,), voc_pairs)
      value, table = ap.mean_average_precision(hits, _VOC[self.metric])
      score = Score('mAP', value, noise=ap.bootstrap_noise(hits, _VOC[self.metric]))
      figures = []
    known = ~np.isnan(table).all(1)
    of_classes = [
      Score(f'AP {name}', float(np.nanmean(row)))
      for name, row, there in zip(self.class_names, table, known, strict=True)
      if there
    ]
    loss = (totals['classes'] + totals['boxes']) / max(totals['matched'], 1.0)
    return Evaluation(score, loss, int(totals['samples']), (*figures, *of_classes))

  def _judged_by_coco(
    self, records: Mapping[str, np.ndarray]
  ) -> tuple[Score, list[Score], np.ndarray]:
    hits = self._hits(records, ap.COCO_THRESHOLDS, coco_pairs)
    value, table = ap.mean_average_precision(hits, ap.coco)
    score = Score('mAP', value, noise=ap.bootstrap_noise(hits, ap.coco))
    figures = []
    for name, place in (('mAP 50', 0), ('mAP 75', 5)):
      column = table[:, place]
      known = column[~np.isnan(column)]
      figures.append(Score(name, float(known.mean()) if known.size else 0.0))
    for name, areas in ap.COCO_AREAS.items():
      hits = self._hits(records, ap.COCO_THRESHOLDS, coco_pairs, areas)
      if any(one.objects.any() for one in hits):
        figures.append(Score(f'mAP {name}', ap.mean_average_precision(hits, ap.coco)[0]))
    return score, figures, table

  def _hits(self, records: Mapping[str, np.ndarray], thresholds, pairing, areas=ALL_AREAS) -> list:  # noqa: ANN001
    found, given = (records[name].astype(np.float64) for name in ('detections', 'objects'))
    most = self.suppression.per_class
    nb_classes = len(self.class_names)
    return hits_by_class(found, given, nb_classes, thresholds, pairing, areas, most)

  def divergence(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """What `distillation` gives at temperature 1, for each image, float [n]."""
    if original.ndim == 2:
      return ((original - changed) ** 2).mean(-1)
    pairs = zip(original[:, None], changed[:, None], strict=True)
    return np.array([float(self.distillation(*map(tf.constant, pair), 1.0)) for pair in pairs])

  def agreement(self, reference: np.ndarray, outputs: np.ndarray) -> float | None:
    """Fraction of one class among the default boxes for which either says that there is an object."""
    shape = (len(reference), self.anchors.count, -1)
    classes = [x.reshape(shape)[..., 4:].argmax(-1) for x in (reference, outputs)]
    seen = (classes[0] != mb.BACKGROUND) | (classes[1] != mb.BACKGROUND)
    return float(np.mean((classes[0] == classes[1])[seen])) if seen.any() else None

  def guess_note(self, evaluation: Evaluation) -> str | None:
    """Whether almost nothing is found."""
    value = evaluation.score.value
    if value > _LEAST_SCORE:
      return None
    return (
      f'The baseline finds almost nothing: its mAP is {100 * value:.2f} %; are the weights trained, '
      'the classes in the order of the training, and the pixels normalised as then (--preprocess)?'
    )

  # Deployment.

  def further_formats(self) -> Mapping[str, Callable[..., Any]]:
    """The file that ends in detections, `_nms.tflite`, if it is wanted."""
    if not self._exports_detections:
      return {}
    return {'tflite_nms': functools.partial(write_detections, find=self._detections_of_one)}

  def _detections_of_one(self, outputs: tf.Tensor) -> tf.Tensor:
    """Detections [1, k, 6] of one image, with TensorFlow Lite's operations."""
    boxes = decode(outputs[0, :, :4], self._boxes)
    scores = tf.nn.softmax(outputs[0, :, 4:])[:, 1:]
    return suppressed_plainly(boxes, scores, self.suppression)[None]

  def pictures(self, inputs: Any, targets: Any, before: Any, after: Any) -> Sequence[Picture]:
    """The first images with their objects and the detections of both networks."""
    rows = slice(NB_PANELS)
    seen = [self.detections(tf.constant(outputs[rows])).numpy() for outputs in (before, after)]
    return [boxed(inputs[rows], targets[rows], *seen, self.class_names)]

  # Auxiliary heads.

  def make_head(self, shape: tuple[int | None, ...], name: str, seed: int) -> keras.Model:
    """BN, ReLU, global average pooling and a linear layer that says which classes occur.

    Deviation from heads that predict boxes: a map's cells need not be those of any default box.
    """
    inputs = x = L.Input(shape[1:])
    x = L.BatchNormalization(momentum=_BN_MOMENTUM, dtype='float32', name='norm')(x)
    x = L.GlobalAveragePooling2D(dtype='float32')(L.ReLU(dtype='float32')(x))
    start = keras.initializers.GlorotUniform(seed)
    nb_classes = len(self.class_names)
    x = L.Dense(nb_classes, kernel_initializer=start, dtype='float32', name='logits')(x)
    return keras.Model(inputs, x, name=name)

  def start_head(self, head: keras.Model, maps: heads.Rows, targets: np.ndarray) -> None:
    """Normalisation takes the maps' mean and variance."""
    del targets
    heads.fit_norm(head.get_layer('norm'), maps)

  def identity(self) -> dict[str, str]:
    """The task's name and metric."""
    return {'task': self.name, 'metric': self.metric}
