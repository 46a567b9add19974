"""Segmentation against a slow oracle: counts of pixels, and noise by the bootstrap."""

import numpy as np
import pytest
import tensorflow as tf

from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.segmentation import Segmentation

NB, SIZE, NB_CLASSES = 19, 6, 3


def sample(nb=NB, classes=NB_CLASSES, seed=0):
  rng = np.random.default_rng(seed)
  targets = rng.integers(0, classes, (nb, SIZE, SIZE)).astype(np.int32)
  targets[:, 0, :2] = 255
  logits = rng.normal(size=(nb, SIZE, SIZE, classes)).astype(np.float32)
  known = np.clip(targets, 0, classes - 1)
  logits += (np.eye(classes)[known] * rng.uniform(0, 3, (nb, 1, 1, 1))).astype(np.float32)
  return logits, targets


def oracle(found, targets, classes=NB_CLASSES):
  """Mean IoU, pixel accuracy and Dice, pixel by pixel."""
  table = np.zeros((classes, classes))
  for a, b in zip(targets.ravel(), found.ravel()):
    if 0 <= a < classes:
      table[a, b] += 1
  hits = table.diagonal()
  union = table.sum(0) + table.sum(1) - hits
  seen = union > 0
  return (
    (hits[seen] / union[seen]).mean(),
    hits.sum() / table.sum(),
    (2 * hits[seen] / (union + hits)[seen]).mean(),
  )


def evaluated(task, *parts, batch=4):
  batches = tf.data.Dataset.from_tensor_slices(parts).batch(batch)
  return evaluate_function(lambda outputs: outputs, batches, task)


@pytest.mark.parametrize('batch', [1, 4, 50])
def test_scores_by_counting(batch):
  logits, targets = sample()
  found = evaluated(Segmentation((SIZE, SIZE, NB_CLASSES)), logits, targets, batch=batch)
  values = (found.score.value, *(one.value for one in found.figures))
  np.testing.assert_allclose(values, oracle(logits.argmax(-1), targets))
  known = targets < NB_CLASSES
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  losses = -np.take_along_axis(log_p, np.clip(targets, 0, 2)[..., None], -1)[..., 0]
  assert found.loss == pytest.approx(losses[known].mean(), rel=1e-5)
  assert found.nb_samples == NB


def test_counting_makes_no_map_of_all_classes():
  task, (logits, targets) = Segmentation((SIZE, SIZE, NB_CLASSES)), sample()
  kinds = [tf.TensorSpec.from_tensor(tf.constant(one)) for one in (targets, logits)]
  weights = tf.TensorSpec(targets.shape, tf.float32)
  graph = tf.function(task.sums).get_concrete_function(*kinds, weights).graph
  made = [op for op in graph.get_operations() if op.type not in ('Placeholder', 'Identity')]
  sizes = [one.shape.num_elements() or 0 for op in made for one in op.outputs]
  assert max(sizes) == targets.size


def test_one_logit_and_sequences():
  rng = np.random.default_rng(1)
  logits = rng.normal(size=(NB, 9, 1)).astype(np.float32)
  targets = rng.integers(0, 2, (NB, 9)).astype(np.int32)
  found = evaluated(Segmentation((9, 1)), logits, targets)
  assert found.score.value == pytest.approx(oracle((logits[..., 0] > 0).astype(int), targets, 2)[0])


def test_the_noise_is_that_of_the_bootstrap():
  logits, targets = sample(nb=120)
  found = evaluated(Segmentation((SIZE, SIZE, NB_CLASSES)), logits, targets)
  classes, rng = logits.argmax(-1), np.random.default_rng(0)
  drawn = []
  for _ in range(60):
    places = rng.integers(0, 120, 120)
    drawn.append(oracle(classes[places], targets[places]))
  noises = [found.score.noise, *(one.noise for one in found.figures)]
  np.testing.assert_allclose(noises, np.std(drawn, axis=0), rtol=0.35)


def test_weights_of_samples_and_of_pixels():
  logits, targets = sample()
  task = Segmentation((SIZE, SIZE, NB_CLASSES))
  each = np.zeros(NB, np.float32)
  each[:5] = 1
  alone = task.loss(tf.constant(targets[:5]), tf.constant(logits[:5]))
  weighted = task.loss(tf.constant(targets), tf.constant(logits), tf.constant(each))
  np.testing.assert_allclose(weighted, alone, rtol=1e-5)
  pixels = np.broadcast_to(each[:, None, None], targets.shape)
  by_pixel = task.loss(tf.constant(targets), tf.constant(logits), tf.constant(pixels))
  np.testing.assert_allclose(by_pixel, alone, rtol=1e-5)


def test_targets_in_other_forms():
  task = Segmentation((SIZE, SIZE, NB_CLASSES))
  _, targets = sample()
  known = np.clip(targets, 0, 2)
  for form in (known[..., None], known.astype(np.float32), np.eye(3)[known]):
    np.testing.assert_array_equal(task.canonical(tf.constant(form)), known)
  with pytest.raises(UserError, match='targets go from 7 to 7, but the model has 3 classes'):
    task.require_targets(np.full((2, SIZE, SIZE), 7), 'training')


def test_divergence_distillation_and_agreement():
  for shape, ending in (((4, 4, 3), None), ((4, 4, 1), None), ((4, 4, 3), 'sigmoid')):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(5, *shape)).astype(np.float32) for _ in range(2))
    task = Segmentation(shape, ending=ending)
    np.testing.assert_allclose(task.divergence(a, a), 0, atol=1e-6)
    assert (task.divergence(a, b) > 0).all()
    at_1 = float(task.distillation(tf.constant(a), tf.constant(b), 1.0))
    assert at_1 == pytest.approx(task.divergence(a, b).mean(), rel=1e-4)
    assert task.agreement(a, a) == 1.0
    task.check()


def test_one_class_everywhere_is_a_guess():
  task = Segmentation((4, 4, 3))
  assert 'not above that of one class' in task.guess_note(Evaluation(Score('mean_iou', 0.2), 1, 9))
  assert task.guess_note(Evaluation(Score('mean_iou', 0.6), 1, 9)) is None
