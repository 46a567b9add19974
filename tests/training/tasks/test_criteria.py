"""Losses and metrics of the user's own: how they are checked, minimised and measured."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.blocks.discrimination import LayerObjective
from secateurs.learners.run.training.judging import Judge
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.layerwise.maps import MapStore
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.criteria import Criteria, cross_entropy
from secateurs.utils.training.tasks.evaluation import evaluate, evaluate_function
from secateurs.utils.training.tasks.objectives import TaskObjective


def hinge(labels, logits):
  """Per sample: how much the label's logit falls short of 1."""
  return tf.nn.relu(1.0 - tf.gather(logits, labels, batch_dims=1))


def by_hand(labels, logits):
  return np.maximum(1.0 - logits[np.arange(len(labels)), labels], 0.0)


def of_class_two(labels, logits):
  del logits
  return tf.reduce_mean(tf.cast(labels == 2, tf.float32))


def samples(nb, nb_classes=4, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 2, (nb, nb_classes)).astype(np.float32)
  return logits, rng.integers(0, nb_classes, nb).astype(np.int32)


@pytest.fixture(scope='module')
def pass_through():
  """A model that gives its input."""
  inputs = keras.Input((4,))
  return keras.Model(inputs, keras.layers.Activation('linear')(inputs))


@pytest.mark.parametrize('batch_size', [1, 7, 23])
def test_every_sample_counts_once_whatever_the_batches(pass_through, batch_size):
  logits, labels = samples(23)
  batches = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(batch_size)
  task = Classification(4, Criteria(hinge, {'twos': of_class_two, 'hinge': hinge}))
  task.check()
  for found in (
    evaluate(pass_through, batches, task),
    evaluate_function(lambda images: images, batches, task),
  ):
    assert found.loss == pytest.approx(by_hand(labels, logits).mean(), rel=1e-5)
    assert list(found.metrics) == ['twos', 'hinge']
    assert found.metrics['twos'] == pytest.approx(np.mean(labels == 2), rel=1e-5)
    assert found.metrics['hinge'] == pytest.approx(found.loss, rel=1e-6)
    assert found.nb_samples == 23


def test_objects_of_tf_keras_losses_give_the_same_as_functions():
  logits, labels = samples(9)
  for reduction in ('sum_over_batch_size', 'none'):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    criteria = Criteria(loss)
    criteria.check(4)
    np.testing.assert_allclose(
      criteria.loss(labels, logits), np.mean(cross_entropy(labels, logits)), rtol=1e-5
    )
    assert criteria.loss_name == 'SparseCategoricalCrossentropy'
  assert Criteria().loss_name is None
  assert Criteria(hinge).loss_name == 'hinge'


def test_a_batch_is_trained_on_the_users_loss_with_the_teacher_on_top(pass_through):
  logits, labels = samples(6)
  task = Classification(4, Criteria(hinge, {'twos': of_class_two}))
  plain = TaskObjective(pass_through, task)
  loss, metrics = plain((tf.constant(logits), tf.constant(labels)))
  assert float(loss) == pytest.approx(by_hand(labels, logits).mean(), rel=1e-5)
  assert tuple(metrics) == plain.metric_names == ('accuracy', 'twos')
  taught = TaskObjective(pass_through, task, teacher=pass_through, weight=3.0)
  same, metrics = taught((tf.constant(logits), tf.constant(labels)))
  assert set(metrics) == set(taught.metric_names) == {'accuracy', 'twos', 'loss_dst'}
  assert float(same) == pytest.approx(float(loss), abs=1e-5)  # It teaches what is known.


def test_searches_and_layers_are_judged_by_the_users_loss(pass_through):
  logits, labels = samples(11)
  task = Classification(4, Criteria(hinge))
  judge = Judge(pass_through, logits, labels, task)
  assert judge.loss() == pytest.approx(by_hand(labels, logits).mean(), rel=1e-5)
  assert judge().loss == judge.loss()
  assert judge().nb_samples == 11
  assert judge.goodness() == pytest.approx(np.mean(logits.argmax(-1) == labels))
  flat = flatten_model(pass_through)
  ((number, _),) = flat.inputs
  maps = {number: MapStore().holding(logits)}
  objective = LayerObjective(
    flat, 0, flat.outputs[0], None, maps, {}, tf.constant(labels), task
  )  # fmt: skip
  loss, _ = objective(tf.range(11))
  # Kept maps have half precision.
  assert float(loss) == pytest.approx(by_hand(labels, logits).mean(), rel=1e-3)


@pytest.mark.parametrize(
  ('loss', 'metrics', 'message'),
  [
    (lambda y, z: z, None, r'The loss gives \(2, 4\) for labels \(2,\) and logits \(2, 4\)'),
    (lambda y, z: tf.argmax(z, -1), None, r'The loss has no gradient to the logits'),
    (keras.losses.CategoricalCrossentropy(), None, r'The loss failed on int32 labels \(2,\)'),
    ('mse', None, r'The loss is a str, but a function'),
    (None, {'accuracy': hinge}, r"A metric is named 'accuracy'"),
    (None, {3: hinge}, r'A metric is named 3'),
    (None, {'auc': keras.metrics.AUC()}, r'Metric auc is a AUC object, which sums up by itself'),
    (None, {'bad': lambda y, z: 1 / 0}, r'Metric bad failed on .*ZeroDivisionError'),
    (None, {'wide': lambda y, z: z}, r'Metric wide gives \(2, 4\)'),
  ],
)
def test_what_does_not_fit_is_told_before_any_training(loss, metrics, message):
  with pytest.raises(UserError, match=message):
    Criteria(loss, metrics).check(4)
  with pytest.raises(UserError, match=message):
    Classification(4, Criteria(loss, metrics)).check()


def test_two_classes_are_not_taken_for_two_samples():
  with pytest.raises(UserError, match=r'Metric m gives \(2,\) for labels \(3,\)'):
    Criteria(None, {'m': lambda y, z: tf.reduce_mean(z, 0)}).check(2)
