"""Data as users have it: structures, weights, pipelines, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.errors import UserError

L = keras.layers
NB = 20


def pair(nb=NB, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(nb, 4)).astype(np.float32), rng.integers(0, 3, nb)


@pytest.fixture(scope='module')
def model():
  return keras.Sequential([L.Input((4,), name='row'), L.Dense(3, 'softmax', name='kind')])


def helper_of(model, train, evaluation=None, **options):
  return ModelHelper.from_model(
    model, train, pair(8) if evaluation is None else evaluation, **options
  )


def batches(helper, steps, size=5):
  return [
    tf.nest.map_structure(np.asarray, batch)
    for batch in helper.train_batches(size, seed=0).take(steps)
  ]


def test_single_inputs_and_targets_may_be_named(model):
  inputs, labels = pair()
  plain = batches(helper_of(model, (inputs, labels)), 4)
  for train in (({'row': inputs}, labels), ((inputs,), labels), (inputs, {'kind': labels})):
    named = batches(helper_of(model, train), 4)
    for (x, y), (a, b) in zip(plain, named, strict=True):
      np.testing.assert_array_equal(x, a)
      np.testing.assert_array_equal(y, b)


def test_weights_follow_their_samples(model):
  inputs, labels = pair()
  weights = np.arange(NB, dtype=np.float32)
  by_sample = {tuple(row): weight for row, weight in zip(inputs, weights)}
  arrays = (inputs, labels, weights)
  for train in (arrays, tf.data.Dataset.from_tensor_slices(arrays).batch(3)):
    for x, _, w in batches(helper_of(model, train), 4):
      assert [by_sample[tuple(row)] for row in x] == w.tolist()


def test_weights_of_classes_multiply_those_of_samples(model):
  inputs, labels = pair()
  train = (inputs, labels, np.full(NB, 2.0))
  helper = helper_of(model, train, class_weight={0: 3.0, 2: 0.0})
  for _, y, w in batches(helper, 4):
    assert w.tolist() == [2 * {0: 3.0, 1: 1.0, 2: 0.0}[label] for label in y]
  assert all(len(batch) == 2 for batch in helper.eval_batches('eval', 4))
  with pytest.raises(UserError, match='class_weight gives class 7'):
    helper_of(model, (inputs, labels), class_weight={7: 1.0})
  line = keras.Sequential([L.Input((4,)), L.Dense(1)])
  numbers = (inputs, inputs[:, :1])
  with pytest.raises(UserError, match='targets of task regression are no classes'):
    ModelHelper.from_model(line, numbers, numbers, class_weight={0: 2.0})


@pytest.mark.parametrize('sizes', [None, 7, 20])
def test_pipelines_give_the_same_samples_in_batches_of_any_size(model, sizes):
  data = tf.data.Dataset.from_tensor_slices(pair())
  helper = helper_of(model, data if sizes is None else data.batch(sizes), data)
  assert helper.nb_samples('train') == helper.nb_samples('eval') == NB
  seen = np.concatenate([x for x, _ in helper.eval_batches('eval', 6)])
  np.testing.assert_array_equal(seen, pair()[0])


def test_endless_pipelines_need_the_length_of_an_epoch(model):
  endless = tf.data.Dataset.from_tensor_slices(pair()).batch(5).repeat()
  helper = helper_of(model, endless, endless, steps_per_epoch=3, validation_steps=2)
  assert (helper.nb_samples('train'), helper.nb_samples('eval')) == (15, 10)
  inputs = np.concatenate([x for x, _ in batches(helper, 8)])
  np.testing.assert_array_equal(inputs, np.tile(pair()[0], (2, 1)))
  later = next(iter(helper.train_batches(5, 0, start=5)))[0]
  np.testing.assert_array_equal(later, inputs[25:30])
  with pytest.raises(
    UserError, match=r'never ends: leave its repeat.. out, or give .* steps_per_epoch'
  ):
    helper_of(model, endless)
  with pytest.raises(UserError, match='validation_steps'):
    helper_of(model, pair(), endless)
  with pytest.raises(UserError, match=r'it is no tf.data.Dataset'):
    helper_of(model, pair(), steps_per_epoch=3)


@pytest.mark.parametrize('pipeline', [False, True])
def test_names_as_labels_are_numbered(model, pipeline):
  inputs, labels = pair()
  names = np.array(['owl', 'cat', 'dog'])[labels]
  data = (inputs, names)
  given = tf.data.Dataset.from_tensor_slices(data).batch(6) if pipeline else data
  helper = helper_of(model, given, given)
  found = np.concatenate([y for _, y in helper.eval_batches('eval', 6)])
  assert [['cat', 'dog', 'owl'][number] for number in found] == names.tolist()
  assert helper.notes() == ['Labels were numbered in sorted order: cat, dog, owl.']
  with pytest.raises(UserError, match="the name 'emu', which no training sample has"):
    helper_of(model, given, (inputs[:2], np.array(['emu', 'cat'])))


def test_names_that_are_no_text_are_named(model):
  inputs, labels = pair()
  data = (inputs, np.array([b'a\xff', b'b', b'c'])[labels])
  for given in (data, tf.data.Dataset.from_tensor_slices(data).batch(6)):
    with pytest.raises(UserError, match=r"label b'a\\xff' is a name in bytes that are no UTF-8"):
      helper_of(model, given, given)


def test_numbers_that_are_not_finite_are_refused(model):
  inputs, labels = pair()
  inputs[13, 2] = np.nan
  data = tf.data.Dataset.from_tensor_slices((inputs, labels))
  for train in ((inputs, labels), data, data.batch(4)):
    with pytest.raises(UserError, match='Sample 13 of the training data has numbers that are NaN'):
      helper_of(model, train)
  large = inputs.astype(np.float64)
  large[13, 2] = 1e200  # Which is infinite where the network reads it.
  with pytest.raises(UserError, match='Sample 13 of the training data has numbers that are NaN'):
    helper_of(model, (large, labels))
  endless = data.batch(4).repeat()
  with pytest.raises(UserError, match='Sample 13 of the evaluation data'):
    helper_of(model, pair(), endless, validation_steps=4)


def test_classes_that_are_missing_are_named(model):
  inputs, labels = pair()
  assert helper_of(model, pair()).notes() == []
  few = (inputs, np.where(labels == 2, 0, labels))
  (note,) = helper_of(model, few, pair()).notes()
  assert note == 'The evaluation data has classes that the training data lacks: 2.'
  one = (inputs, np.ones_like(labels))
  assert helper_of(model, one, one).notes() == [
    'All samples of the training data are of one class, 1.',
    'All samples of the evaluation data are of one class, 1.',
  ]


def bad(kind):
  inputs, labels = pair()
  return {
    'four parts': (inputs, labels, labels, labels),
    'ragged': tf.data.Dataset.from_tensors((tf.ragged.constant([[1.0], [2.0, 3.0]]), [0, 1])),
    'shape': (inputs[:, :3], labels),
    'text': (np.array([['a'] * 4] * NB), labels),
    'length': (inputs, labels[:-1]),
    'weights': (inputs, labels, np.full(NB, -1.0)),
    'no weight': (inputs, labels, np.zeros(NB)),
    'empty': tf.data.Dataset.from_tensor_slices(pair()).take(0),
    'range': (inputs, labels + 5),
    'list': [inputs],
  }[kind]


@pytest.mark.parametrize(
  ('kind', 'text'),
  [
    ('four parts', '4 parts came'),
    ('ragged', 'ragged or sparse tensors, but dense ones were expected'),
    ('shape', r'images \(20, 3\) and labels \(20,\), but \(n, 4\)'),
    ('text', 'type <U1, but numbers were expected'),
    ('length', r'labels \(19,\)'),
    ('weights', 'a finite number of at least 0 for each of 20 samples'),
    ('no weight', 'weights of samples are all 0'),
    ('empty', 'pipeline is empty'),
    ('range', 'labels go from 5 to 7, but the model has 3 classes'),
    ('list', '1 parts came'),
  ],
)
def test_what_cannot_work_is_one_sentence(model, kind, text):
  with pytest.raises(UserError, match=text):
    helper_of(model, bad(kind))


def test_several_inputs_and_outputs_by_name_or_in_order():
  one, two = L.Input((4,), name='one'), L.Input((2,), name='two')
  x = L.Concatenate()([one, two])
  both = keras.Model(
    [one, two], [L.Dense(3, 'softmax', name='kind')(x), L.Dense(1, name='size')(x)]
  )
  inputs, labels = pair()
  other, sizes = inputs[:, :2] * 2, inputs[:, :1] * 3
  named = ({'two': other, 'one': inputs}, {'size': sizes, 'kind': labels})
  ordered = ((inputs, other), (labels, sizes))
  for data in (named, ordered, tf.data.Dataset.from_tensor_slices(named).batch(6)):
    helper = ModelHelper.from_model(both, data, data, loss_weights={'size': 0.5}, judge='size')
    (a, b), (c, d) = next(iter(helper.eval_batches('eval', NB)))
    for found, wanted in ((a, inputs), (b, other), (c, labels), (d, sizes)):
      np.testing.assert_array_equal(found, wanted)
    assert [type(task).__name__ for task in helper.task.tasks] == ['Classification', 'Regression']
    assert (helper.task.factors, helper.task.judge) == ((1.0, 0.5), 'size')
  with pytest.raises(UserError, match='those of size were expected, too'):
    ModelHelper.from_model(both, (named[0], {'kind': labels}), named)
  with pytest.raises(UserError, match='The training inputs are one, but the model reads one, two'):
    ModelHelper.from_model(both, ({'one': inputs}, named[1]), named)
  with pytest.raises(UserError, match="'weight' is no output of the model"):
    ModelHelper.from_model(both, named, named, loss_weights={'weight': 1.0})


def test_arrays_count_in_bytes_and_pipelines_do_not(model):
  inputs, labels = pair()
  pipeline = tf.data.Dataset.from_tensor_slices(pair(8)).batch(4)
  numbers, classes = 4 * 4, 4  # Bytes of a sample.
  for options in ({}, {'nb_smpls_val': 5}):
    helper = helper_of(model, (inputs, labels), **options)
    assert helper.held_bytes() == (NB + 8) * (numbers + classes)
  assert helper_of(model, (inputs, labels), pipeline).held_bytes() == NB * (numbers + classes)
