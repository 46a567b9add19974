"""Which task a model gets: by name, by loss, by activation, by targets."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.endings import ending_of, opened, with_endings, without_endings
from secateurs.utils.training.tasks.choice import TASKS, loss_name, task_of

L = keras.layers
WHOLE, PARTS = np.arange(6) % 3, np.linspace(0, 1, 6)
YES_NO = np.arange(6) % 2
ONE_HOT = np.eye(3)[WHOLE]

CASES = [
  # shape, ending, loss, targets -> task
  ((3,), 'softmax', None, WHOLE, 'classification'),
  ((3,), 'softmax', None, None, 'classification'),
  ((3,), 'softmax', 'mse', ONE_HOT, 'classification'),
  ((3,), 'softmax', 'kl_divergence', 0.9 * ONE_HOT + 0.1 / 3, 'classification'),
  ((8, 8, 3), 'softmax', None, np.zeros((6, 8, 8)), 'segmentation'),
  ((8, 3), 'softmax', None, np.zeros((6, 8)), 'segmentation'),
  ((1,), 'sigmoid', None, YES_NO, 'binary'),
  ((1,), 'sigmoid', 'mse', YES_NO, 'binary'),
  ((1,), 'sigmoid', 'mse', PARTS, 'regression'),
  ((1,), 'sigmoid', 'binary_crossentropy', PARTS, 'binary'),
  ((3,), 'sigmoid', 'binary_crossentropy', ONE_HOT, 'multi-label'),
  ((3,), 'sigmoid', 'sparse_categorical_crossentropy', WHOLE, 'multi-label'),
  ((8, 8, 1), 'sigmoid', None, np.zeros((6, 8, 8, 1)), 'segmentation'),
  ((8, 8, 1), 'sigmoid', 'binary_crossentropy', np.full((6, 8, 8, 1), 0.3), 'regression'),
  ((3,), None, None, WHOLE, 'classification'),
  ((3,), None, None, None, 'classification'),
  ((3,), None, None, ONE_HOT, 'classification'),
  ((3,), None, None, np.ones((6, 3), int), 'multi-label'),
  ((3,), None, None, np.stack([PARTS] * 3, 1), 'regression'),
  ((1,), None, None, PARTS, 'regression'),
  ((1,), None, None, WHOLE, 'regression'),
  ((1,), None, None, YES_NO.astype(bool), 'binary'),
  ((1,), None, 'mae', YES_NO, 'regression'),
  ((1,), None, keras.losses.BinaryCrossentropy(from_logits=True), YES_NO, 'binary'),
  ((3,), None, keras.losses.SparseCategoricalCrossentropy(from_logits=True), WHOLE,
   'classification'),
  ((8, 8, 3), None, None, np.zeros((6, 8, 8), int), 'segmentation'),
  ((8, 8, 3), None, None, np.full((6, 8, 8, 3), 0.5), 'regression'),
]  # fmt: skip


@pytest.mark.parametrize(('shape', 'ending', 'loss', 'targets', 'task'), CASES)
def test_a_task_is_chosen(shape, ending, loss, targets, task):
  found = task_of(shape, ending, loss=loss, targets=targets)
  assert found.name == task
  assert getattr(found, 'ending', None) == (None if task == 'regression' else ending)


def test_what_is_not_clear_is_refused():
  with pytest.raises(UserError, match='name the task with task=NAME'):
    task_of((1,), None, targets=YES_NO)
  with pytest.raises(UserError, match='1 number'):
    task_of((1,), None)


@pytest.mark.parametrize(
  ('name', 'shape', 'ending', 'text'),
  [
    ('classification', (1,), None, 'at least two classes'),
    ('classification', (3,), 'sigmoid', 'name the task multi-label'),
    ('binary', (2,), None, r'\(None, 1\) was expected'),
    ('multi-label', (4, 4, 2), None, r'\(None, labels\) was expected'),
    ('binary', (1,), 'softmax', 'ends in a softmax'),
    ('segmentation', (3,), None, 'a class for each position'),
    ('regresion', (1,), None, 'Did you mean regression?'),
  ],
)
def test_tasks_that_do_not_fit_are_refused(name, shape, ending, text):
  with pytest.raises(UserError, match=text):
    task_of(shape, ending, wanted=name)


def test_a_named_task_wins():
  assert list(TASKS) == ['classification', 'binary', 'multi-label', 'regression', 'segmentation']
  assert task_of((1,), None, wanted='binary', targets=YES_NO).name == 'binary'
  assert task_of((3,), 'softmax', wanted='regression', targets=WHOLE).ending is None


def test_names_of_losses():
  for loss, name in (
    ('mse', 'mean_squared_error'),
    (keras.losses.Huber(), 'huber'),
    (keras.losses.huber, 'huber'),
    (keras.losses.BinaryCrossentropy(), 'binary_crossentropy'),
    (keras.losses.LogCosh(), 'log_cosh'),
    (None, None),
  ):
    assert loss_name(loss) == name


def test_a_regression_minimises_the_compiled_loss():
  targets, outputs = np.zeros((4, 2), np.float32), np.full((4, 2), 3.0, np.float32)
  for loss, value in (('mse', 9.0), ('mae', 3.0), (keras.losses.Huber(delta=2.0), 4.0)):
    task = task_of((2,), None, loss=loss, targets=PARTS)
    assert float(task.loss(targets, outputs)) == pytest.approx(value)
    weighted = task.loss(targets, outputs * np.array([[1], [1], [0], [0]]), np.array([0, 0, 1, 1]))
    assert float(weighted) == 0


ENDINGS = {
  'argument': lambda x, kind: L.Dense(3, kind)(x),
  'layer': lambda x, kind: L.Activation(kind)(L.Dense(3)(x)),
  'operation': lambda x, kind: getattr(keras.activations, kind)(L.Dense(3)(x)),
  'nested': lambda x, kind: keras.Sequential([L.Dense(3, kind)])(x),
}


@pytest.mark.parametrize('form', ENDINGS)
@pytest.mark.parametrize('kind', ['softmax', 'sigmoid', 'linear'])
def test_activations_at_the_end_are_taken_off_and_put_on(form, kind):
  inputs = L.Input((4,))
  model = keras.Model(inputs, ENDINGS[form](inputs, kind))
  x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
  flat = opened(model)
  ending = ending_of(flat)
  assert ending == (None if kind == 'linear' else kind)
  logits = without_endings(flat, [ending])
  if ending == 'sigmoid':
    np.testing.assert_allclose(1 / (1 + np.exp(-logits(x))), model(x), atol=1e-6)
  np.testing.assert_allclose(with_endings(logits, [ending])(x), model(x), atol=1e-6)


def test_endings_of_several_outputs():
  inputs = L.Input((4,))
  heads = [L.Dense(3, 'softmax')(inputs), L.Dense(1, 'sigmoid')(inputs), L.Dense(2)(inputs)]
  flat = opened(keras.Model(inputs, heads))
  endings = [ending_of(flat, number) for number in range(3)]
  assert endings == ['softmax', 'sigmoid', None]
  x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
  again = with_endings(without_endings(flat, endings), endings)
  for one, wanted in zip(again(x), flat(x)):
    np.testing.assert_allclose(one, wanted, atol=1e-6)
