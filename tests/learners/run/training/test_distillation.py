"""What trainings on the same batches keep."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.training import distillation
from secateurs.learners.run.training.distillation import remembered
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.objectives import TaskObjective


@pytest.fixture
def stream():
  """Endless batches of two images, and the list of the images that were drawn."""
  drawn = []

  def images():
    for number in range(1_000_000):
      drawn.append(number)
      yield np.full((1, 1, 3), number, np.float32), np.int32(number % 2)

  spec = (tf.TensorSpec((1, 1, 3), tf.float32), tf.TensorSpec((), tf.int32))
  data = tf.data.Dataset.from_generator(images, output_signature=spec)
  return data.batch(2, drop_remainder=True), drawn


def network(seed):
  keras.utils.set_random_seed(seed)
  inputs = keras.Input((1, 1, 3))
  return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))


def test_batches_and_answers_are_kept(stream):
  batches, drawn = stream
  teacher = network(1)
  objective = TaskObjective(network(0), Classification(2), teacher=teacher, weight=1.0)
  kept = remembered(objective, batches, 3)
  expected = [teacher(images).numpy() for images, _ in batches.take(3)]
  teacher.set_weights([0 * weight for weight in teacher.get_weights()])
  before = len(drawn)
  for _ in range(2):
    found = list(kept)
    assert [images.numpy()[0, 0, 0, 0] for images, *_ in found] == [0, 2, 4]
    for (_, _, _, told), answer in zip(found, expected, strict=True):
      np.testing.assert_allclose(told, answer, rtol=1e-6)
  assert len(drawn) == before


def test_without_a_teacher_there_are_no_answers(stream):
  kept = remembered(TaskObjective(network(0), Classification(2)), stream[0], 2)
  assert [len(batch) for batch in kept] == [2, 2]


def test_what_takes_too_much_memory_is_made_again(stream, monkeypatch):
  batches, drawn = stream
  monkeypatch.setattr(distillation, '_MAX_BYTES', 10)
  objective = TaskObjective(network(0), Classification(2), teacher=network(1), weight=1.0)
  came = remembered(objective, batches, 2)
  assert [len(batch) for batch in came] == [2, 2]
  before = len(drawn)
  assert len(list(came)) == 2
  assert len(drawn) > before


def test_a_teacher_of_another_image_size_sees_resized_images():
  inputs = keras.Input((4, 6, 3))
  teacher = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
  student = network(0)
  sized = distillation.at_input_of(student, teacher)
  images = np.random.default_rng(0).normal(size=(3, 1, 1, 3)).astype(np.float32)
  expected = teacher(np.tile(images, (1, 4, 6, 1)))
  np.testing.assert_allclose(sized(images), expected, rtol=1e-5, atol=1e-6)
  assert not sized.trainable_weights
  assert distillation.at_input_of(student, network(1)).input_shape == (None, 1, 1, 3)


def test_a_teacher_of_other_inputs_is_refused():
  inputs = keras.Input((4, 6, 1))
  teacher = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
  with pytest.raises(UserError, match=r'takes inputs of shape \(4, 6, 1\), but the network takes'):
    distillation.at_input_of(network(0), teacher)
