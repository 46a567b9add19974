import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.hits import unpacked
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.evaluation import evaluate, evaluate_function
from secateurs.utils.training.tasks.sigmoids import Binary, MultiLabel


@pytest.fixture(scope='module')
def pass_through():
  """A model of any number of classes that gives its input."""
  inputs = keras.Input((None,))
  return keras.Model(inputs, keras.layers.Activation('linear')(inputs))


def outputs(nb, nb_classes, seed=0):
  rng = np.random.RandomState(seed)
  return rng.randn(nb, nb_classes).astype(np.float32), rng.randint(0, nb_classes, nb, np.int32)


@pytest.mark.parametrize('batch_size', [1, 7, 23, 100])
def test_every_sample_counts_once(pass_through, batch_size):
  logits, labels = outputs(23, 30)
  batches = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(batch_size)
  found = evaluate(pass_through, batches, Classification(30))
  ranks = (logits > logits[np.arange(23), labels][:, None]).sum(-1)
  assert found.nb_samples == 23
  assert found.score.name == 'accuracy'
  assert found.score.value == pytest.approx(np.mean(ranks == 0))
  (top5,) = found.figures
  assert top5.name == 'accuracy_top5'
  assert top5.value == pytest.approx(np.mean(ranks < 5))
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  assert found.loss == pytest.approx(-np.mean(log_p[np.arange(23), labels]), rel=1e-5)


@pytest.mark.parametrize('batch_size', [1, 7, 100])
def test_which_samples_are_right_in_the_order_of_the_data(pass_through, batch_size):
  logits, labels = outputs(23, 4)
  batches = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(batch_size)
  by_model = evaluate(pass_through, batches, Classification(4))
  by_function = evaluate_function(lambda images: images, batches, Classification(4))
  expected = np.argmax(logits, -1) == labels
  for found in (by_model, by_function):
    assert (unpacked(found.score.hits) == expected).all()
    assert found.block()['score']['hits']['samples'] == 23


def test_answers_that_are_right(pass_through):
  logits = np.array([[2.0], [-1.0], [0.5]], np.float32)
  batches = tf.data.Dataset.from_tensor_slices((logits, np.float32([[1], [1], [0]]))).batch(2)
  found = evaluate_function(lambda x: x, batches, Binary((1,)))
  assert unpacked(found.score.hits).tolist() == [True, False, False]


def test_weighted_samples_are_not_counted_one_by_one(pass_through):
  logits, labels = outputs(9, 4)
  weighted = tf.data.Dataset.from_tensor_slices((logits, labels, np.ones(9, np.float32))).batch(4)
  found = evaluate(pass_through, weighted, Classification(4))
  assert found.score.hits is None
  assert 'hits' not in found.block()['score']


def test_functions_are_evaluated_alike(pass_through):
  logits, labels = outputs(11, 10)
  batches = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(4)
  by_model = evaluate(pass_through, batches, Classification(10))
  by_function = evaluate_function(lambda images: images, batches, Classification(10))
  assert by_model.score == by_function.score
  assert by_model.loss == pytest.approx(by_function.loss, rel=1e-6)
  assert by_model.figures == ()


def test_arrays_are_judged_as_tensors_are():
  """By scores that need all samples together, too."""
  rng = np.random.default_rng(0)
  pairs = [
    (rng.normal(size=(9, 3)).astype(np.float32), rng.integers(0, 2, (9, 3)).astype(np.float32))
  ]
  tensors = [tuple(tf.constant(one, tf.float32) for one in pairs[0])]
  found, expected = (
    evaluate_function(lambda x: x, one, MultiLabel((3,))) for one in (pairs, tensors)
  )
  assert found.score == expected.score


def test_nothing_to_evaluate_on(pass_through):
  logits, labels = outputs(1, 10)
  empty = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(4).take(0)
  with pytest.raises(ValueError, match='no samples'):
    evaluate(pass_through, empty, Classification(10))
