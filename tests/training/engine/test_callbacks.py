"""The user's callbacks in the compiled loop."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.callbacks import PhaseCallbacks, checked_callbacks


class Diary(keras.callbacks.Callback):
  """Writes down what is called."""

  def __init__(self):
    super().__init__()
    self.seen = []

  def on_train_begin(self, logs=None):
    self.seen.append(('begin', self.params['phase'], self.params['epochs'], self.model.name))

  def on_epoch_begin(self, epoch, logs=None):
    self.seen.append(('epoch', epoch))

  def on_epoch_end(self, epoch, logs=None):
    self.seen.append(('end of epoch', epoch, logs))

  def on_train_batch_end(self, batch, logs=None):
    raise AssertionError('steps stay in the compiled loop')

  def on_train_end(self, logs=None):
    self.seen.append(('end', logs))


class Scale:
  """Loss (w - step)^2, with the step's number as a metric."""

  metric_names = ('number',)

  def __init__(self, w):
    self.w = w

  def __call__(self, batch):
    return (self.w - batch) ** 2, {'number': batch}


@pytest.fixture(scope='module')
def train():
  """Trains for some steps, which change nothing, and gives how many steps each call ran."""
  model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)], name='tiny')
  w = tf.Variable(0.0)
  step = loop.TrainStep(Scale(w), [w], keras.optimizers.SGD(0.0))
  run, calls = step.run, []
  step.run = lambda batches, nb_steps: calls.append(nb_steps) or run(batches, nb_steps)

  def of_callbacks(callbacks, *, start=0, stop=12, steps_per_epoch=5.0, said=None):
    of_phase = PhaseCallbacks(
      callbacks, model, 'fit', start=start, stop=stop, steps_per_epoch=steps_per_epoch,
      say=(said if said is not None else []).append,
    )  # fmt: skip
    calls.clear()
    batches = tf.data.Dataset.from_tensor_slices(np.arange(start, 100, dtype=np.float32))
    of_phase.begin()
    loop.run(step, batches, start=start, stop=stop, phase='fit', events=of_phase.events())
    of_phase.end()
    return list(calls)

  return of_callbacks


def test_epochs_begin_and_end_with_the_means_over_them(train):
  diary = Diary()
  train([diary])
  begin, *epochs, end = diary.seen
  assert begin == ('begin', 'fit', 3, 'tiny')
  assert [e[:2] for e in epochs] == [
    (kind, number) for number in range(3) for kind in ('epoch', 'end of epoch')
  ]
  logs = [e[2] for e in epochs if e[0] == 'end of epoch']
  for found, steps in zip(logs, (range(5), range(5, 10), range(10, 12)), strict=True):
    assert found['number'] == pytest.approx(np.mean(steps))
    assert found['loss'] == pytest.approx(np.mean(np.square(steps)), rel=1e-5)
  assert end == ('end', logs[-1])


def test_steps_between_two_epochs_are_not_interrupted(train):
  """The loop's calls with callbacks end where they would without, and where epochs do."""
  without, with_them = train([], stop=40), train([Diary()], stop=40, steps_per_epoch=20.0)
  assert sum(with_them) == sum(without) == 40
  assert len(with_them) <= len(without) + 2


def test_a_phase_that_goes_on_inside_an_epoch_calls_for_the_rest_of_it(train):
  diary = Diary()
  train([diary], start=7)
  assert [e[:2] for e in diary.seen[1:4]] == [('epoch', 1), ('end of epoch', 1), ('epoch', 2)]
  assert diary.seen[2][2]['number'] == pytest.approx(8.0)
  at_the_end = Diary()
  train([at_the_end], start=12)
  assert at_the_end.seen == []


@pytest.mark.parametrize(
  ('steps_per_epoch', 'nb_epochs'), [(100.0, 1), (12.0, 1), (3.5, 4), (0.3, 12)]
)
def test_epochs_of_any_length(train, steps_per_epoch, nb_epochs):
  diary = Diary()
  train([diary], steps_per_epoch=steps_per_epoch)
  numbers = [e[1] for e in diary.seen if e[0] == 'end of epoch']
  assert numbers == list(range(nb_epochs))
  assert diary.seen[0][2] == nb_epochs


def test_a_wish_to_stop_is_told_and_the_phase_ends_where_it_should(train):
  class Stopper(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      self.model.stop_training = epoch == 0

  said, diary = [], Diary()
  train([Stopper(), diary], said=said)
  assert len(said) == 1
  assert 'asked to stop fit after epoch 1' in said[0]
  assert [e[1] for e in diary.seen if e[0] == 'end of epoch'] == [0, 1, 2]


def test_the_usual_callbacks_work(train, tmp_path):
  callbacks = [
    keras.callbacks.CSVLogger(str(tmp_path / 'log.csv')),
    keras.callbacks.ModelCheckpoint(str(tmp_path / '{epoch}.keras')),
    keras.callbacks.LambdaCallback(on_train_end=lambda logs: (tmp_path / 'done').touch()),
  ]
  train(callbacks)
  lines = (tmp_path / 'log.csv').read_text().splitlines()
  assert lines[0].startswith('epoch,loss,number')
  assert len(lines) == 4
  assert sorted(p.name for p in tmp_path.glob('*.keras')) == ['1.keras', '2.keras', '3.keras']
  assert (tmp_path / 'done').exists()


def test_what_is_no_callback():
  assert checked_callbacks(None) == ()
  with pytest.raises(UserError, match=r'A callback is a builtins\.str, but a tf_keras\.callbacks'):
    checked_callbacks(['x'])
