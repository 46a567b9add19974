"""The detection task: loss, distillation, score, exported detections, pictures."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy import export_model
from secateurs.utils.deploy.pages.pictures import draw_picture
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.detection.anchors import Anchors
from secateurs.utils.detection.boxes import encode
from secateurs.utils.detection.suppression import Suppression
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.detection import Detection
from secateurs.utils.training.tasks.evaluation import evaluate_function

L = keras.layers
ANCHORS = Anchors(32, (4, 2), (10, 18, 30), ((2,), ()))
NAMES = ('cat', 'dog', 'cow')
PIXELS = 32 * 32


@pytest.fixture(scope='module')
def task():
  return Detection(ANCHORS, NAMES)


@pytest.fixture(scope='module')
def targets():
  """Three images with two, one and no objects, which are default boxes but for a shift."""
  boxes = ANCHORS.boxes()
  rows = np.zeros((3, 3, 8), np.float32)
  rows[..., 4], rows[..., 7] = -1, PIXELS
  for image, place, anchor, kind in ((0, 0, 22, 0), (0, 1, 65, 2), (1, 0, 40, 1)):
    rows[image, place, :4] = np.clip(boxes[anchor] + 0.01, 0, 1)
    rows[image, place, 4] = kind
    sides = rows[image, place, 2:4] - rows[image, place, :2]
    rows[image, place, 6] = sides.prod() * PIXELS
  return rows


@pytest.fixture(scope='module')
def perfect(targets):
  """Outputs of a network that sees exactly the objects."""
  boxes = ANCHORS.boxes()
  outputs = np.zeros((3, ANCHORS.count, 8), np.float32)
  outputs[..., 4] = 12.0
  for image, place, anchor in ((0, 0, 22), (0, 1, 65), (1, 0, 40)):
    row = targets[image, place]
    outputs[image, anchor, :4] = encode(row[:4], boxes[anchor])
    outputs[image, anchor, 4], outputs[image, anchor, 5 + int(row[4])] = -2.0, 10.0
  return outputs


def judged(task, targets, outputs):
  batches = tf.data.Dataset.from_tensor_slices((outputs, targets)).batch(2)
  return evaluate_function(tf.identity, batches, task)


@pytest.mark.parametrize('metric', ['coco', 'voc2007', 'voc2012'])
def test_a_perfect_network_has_the_best_score(metric, targets, perfect):
  task = Detection(ANCHORS, NAMES, metric)
  evaluation = judged(task, targets, perfect)
  assert evaluation.score.name == 'mAP'
  assert evaluation.score.value == pytest.approx(1)
  assert evaluation.nb_samples == 3
  figures = {one.name: one.value for one in evaluation.figures}
  assert figures['AP cat'] == figures['AP cow'] == pytest.approx(1)
  assert ('mAP 50' in figures) == ('mAP small' in figures) == (metric == 'coco')
  assert task.guess_note(evaluation) is None
  nothing = judged(task, targets, np.zeros_like(perfect))
  assert nothing.score.value < 0.5
  worst = perfect.copy()
  worst[..., 4] = 30
  worst = judged(task, targets, worst)
  assert worst.score.value == 0
  assert 'almost nothing' in task.guess_note(worst)
  assert worst.loss > evaluation.loss


def test_the_loss_is_the_same_in_training_and_in_evaluation(task, targets, perfect):
  outputs = perfect + np.random.default_rng(0).normal(0, 1, perfect.shape).astype(np.float32)

  @tf.function
  def both(x):
    loss = task.loss(tf.constant(targets), x)
    return loss, task.metrics(tf.constant(targets), x)

  outputs = tf.constant(outputs)
  loss, metrics = both(outputs)
  assert set(metrics) == set(task.metric_names)
  assert float(loss) == pytest.approx(float(sum(metrics.values())), rel=1e-5)
  sums = task.totals(tf.constant(targets), outputs)
  assert float((sums['classes'] + sums['boxes']) / sums['matched']) == pytest.approx(
    float(loss), rel=1e-5
  )
  alone = task.loss(tf.constant(targets), outputs, tf.constant([0.0, 1.0, 1.0]))
  assert float(alone) == pytest.approx(
    float(task.loss(tf.constant(targets[1:]), outputs[1:])), rel=1e-5
  )


def test_distillation_is_least_at_the_teacher(task, perfect):
  taught = tf.constant(perfect)
  assert float(task.distillation(taught, taught, 4.0)) == pytest.approx(0, abs=1e-4)
  noise = np.random.default_rng(0).normal(0, 1, perfect.shape).astype(np.float32)
  far, near = (float(task.distillation(taught, taught + s * noise, 4.0)) for s in (1.0, 0.1))
  assert far > near > 0
  moved = perfect.copy()
  moved[2, :, :4] += 5  # Where the teacher sees no object boxes do not matter.
  assert float(task.distillation(taught, tf.constant(moved), 1.0)) < 0.02
  divergence = task.divergence(perfect, perfect + noise)
  assert divergence.shape == (3,)
  assert (divergence > 0).all()
  np.testing.assert_allclose(task.divergence(perfect, perfect), 0, atol=1e-4)


def test_agreement_counts_where_something_is_seen(task, perfect):
  assert task.agreement(perfect, perfect) == 1
  other = perfect.copy()
  other[0, 22, 4] = 30
  assert task.agreement(perfect, other) == pytest.approx(2 / 3)
  assert task.agreement(perfect[2:], perfect[2:]) is None


def small_net():
  inputs = L.Input((32, 32, 3))
  x = L.Conv2D(8, 3, 8, 'same', activation='relu')(inputs)
  maps = (x, L.MaxPooling2D(2)(x))
  rows = [
    L.Reshape((-1, 8))(L.Conv2D(8 * each, 3, padding='same')(one))
    for one, each in zip(maps, ANCHORS.per_cell, strict=True)
  ]
  return keras.Model(inputs, L.Concatenate(1)(rows))


def test_a_file_that_ends_in_detections(tmp_path):
  keras.utils.set_random_seed(3)
  task = Detection(ANCHORS, NAMES, suppression=Suppression(0.26, 0.4, 150, 150))
  model = small_net()
  images = np.random.default_rng(0).normal(0, 2, (4, 32, 32, 3)).astype(np.float32)
  export = export_model(
    model,
    tmp_path / 'model',
    parity_images=images,
    further=task.further_formats(),
    agreement=task.agreement,
  )
  path = export.further['tflite_nms'].path
  assert path.name == 'model_nms.tflite'
  expected = task.detections(model(images)).numpy()
  assert 3 < (expected[..., 5] >= 0).sum() < expected[..., 5].size
  file = TFLiteModel(path)
  for image, rows in zip(images, expected, strict=True):
    np.testing.assert_allclose(file.predict(image[None]).reshape(150, 6), rows, atol=1e-4)
  assert not Detection(ANCHORS, NAMES, exports_detections=False).further_formats()


def test_heads_say_which_classes_occur(task, targets):
  head = task.make_head((None, 4, 4, 8), 'head', 0)
  maps = np.random.default_rng(0).normal(3, 2, (3, 4, 4, 8)).astype(np.float32)
  task.start_head(head, maps, targets)
  np.testing.assert_allclose(head.get_layer('norm').moving_mean, maps.mean((0, 1, 2)), rtol=1e-5)
  logits = head(maps)
  assert logits.shape == (3, 3)
  right = np.array([[9, -9, 9], [-9, 9, -9], [-9, -9, -9]], np.float32)
  losses = [float(task.loss(tf.constant(targets), tf.constant(x))) for x in (right, -right)]
  assert losses[0] < 1e-3
  assert losses[1] > 8
  assert set(task.metrics(tf.constant(targets), logits)) == set(task.metric_names)


def test_pictures_show_boxes(task, targets, perfect):
  images = np.random.default_rng(0).normal(size=(3, 32, 32, 3))
  (picture,) = task.pictures(images, targets, perfect, np.zeros_like(perfect))
  assert picture.data['targets'][0][0][4] == 'cat'
  assert picture.data['before'][1][0][4] == 'dog 100 %'
  assert picture.data['after'] == [[], [], []]
  assert draw_picture(picture)['plot'].startswith('<img alt="Samples: objects')


def test_a_teacher_must_fit(task):
  inputs = L.Input((32, 32, 3))
  other = keras.Model(inputs, L.Conv2D(8, 1)(inputs))
  task.require_teacher(small_net(), small_net())
  with pytest.raises(UserError, match='same default boxes'):
    task.require_teacher(other, small_net())
  assert task.identity() == {'task': 'detection', 'metric': 'coco'}
