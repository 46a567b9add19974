import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets.unlabelled import is_unlabelled, with_decisions
from secateurs.utils.errors import UserError


def classifier(units=3, activation='softmax'):
  keras.utils.set_random_seed(1)
  inputs = keras.Input((4,))
  return keras.Model(inputs, keras.layers.Dense(units, activation=activation)(inputs))


INPUTS = np.random.default_rng(0).normal(size=(20, 4)).astype('float32')


def test_every_fifth_input_evaluates_and_labels_are_decisions():
  model = classifier()
  (train, labels), (test, others) = with_decisions(model, INPUTS, None)
  assert (len(train), len(test)) == (16, 4)
  assert np.array_equal(test, INPUTS[4::5])
  assert np.array_equal(labels, model.predict(train, verbose=0).argmax(1))
  assert np.array_equal(others, model.predict(test, verbose=0).argmax(1))


@pytest.mark.parametrize('activation', ['sigmoid', None])
def test_binary_decisions(activation):
  model = classifier(1, activation)
  (_, labels), _ = with_decisions(model, INPUTS, INPUTS[:2])
  logits = INPUTS @ model.layers[-1].kernel.numpy() + model.layers[-1].bias.numpy()
  assert np.array_equal(labels, (logits[:, 0] > 0).astype(int))


def test_what_has_labels_is_something_else():
  assert is_unlabelled(INPUTS)
  assert not is_unlabelled((INPUTS, np.zeros(20)))


def test_mistakes_are_one_sentence():
  with pytest.raises(UserError, match='at least 5 inputs, but 3 came'):
    with_decisions(classifier(), INPUTS[:3], None)
  with pytest.raises(UserError, match='evaluation data with them'):
    with_decisions(classifier(), INPUTS, (INPUTS, np.zeros(20)))
