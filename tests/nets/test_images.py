import numpy as np
import pytest
import tensorflow as tf

from secateurs.nets.datasets import digits
from secateurs.nets.datasets.images import ImageDataset, sample_order
from secateurs.nets.datasets.pixels import MEAN, STD, Augmentation, augmented, normalize
from secateurs.nets.datasets.source import AUGMENTATIONS, DataConfig
from secateurs.nets.datasets.splits import Split, hold_out
from secateurs.utils.errors import UserError


def dataset(nb=50):
  augmentation = Augmentation(pad=2, flip=True)
  images = np.random.RandomState(0).randint(0, 256, (nb, 8, 6, 3), np.uint8)
  split = Split(images, np.arange(nb, dtype=np.int32))
  splits = {'train': split, 'val': split.take(np.arange(0)), 'eval': split}
  return ImageDataset('toy', (8, 6, 3), [str(i) for i in range(nb)], splits, augmentation)


def test_normalize():
  pixels = np.array([[[0, 128, 255]]], np.uint8)
  expected = (pixels / 255 - np.array(MEAN)) / np.array(STD)
  np.testing.assert_allclose(normalize(tf.constant(pixels)), expected, rtol=1e-5)


def test_order_is_a_permutation_of_every_epoch_and_another_one_each_time():
  order = list(sample_order(20, seed=3, start=0).take(60).as_numpy_iterator())
  epochs = [order[:20], order[20:40], order[40:]]
  assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2]
  other = list(sample_order(20, seed=4, start=0).take(20).as_numpy_iterator())
  assert other != epochs[0]


@pytest.mark.parametrize('start', [1, 19, 20, 33])
def test_order_can_be_entered_anywhere(start):
  order = list(sample_order(20, seed=3, start=0).take(60).as_numpy_iterator())
  entered = list(sample_order(20, seed=3, start=start).take(60 - start).as_numpy_iterator())
  assert entered == order[start:]


@pytest.mark.parametrize('start', [1, 6, 7])
def test_batches_can_be_entered_anywhere(start):
  data = dataset()
  whole = list(data.train_batches(8, seed=1).take(10).as_numpy_iterator())
  entered = list(data.train_batches(8, seed=1, start=start).take(10 - start).as_numpy_iterator())
  for (x, y), (x2, y2) in zip(whole[start:], entered, strict=True):
    np.testing.assert_array_equal(x, x2)
    np.testing.assert_array_equal(y, y2)


def test_each_image_is_shifted_and_mirrored_by_itself():
  """Every result is one of the shifts of its image, mirrored or not; all kinds occur."""
  images = np.random.RandomState(0).randint(1, 256, (200, 8, 6, 3), np.uint8)
  pad = 1
  found = augmented(tf.constant(images), Augmentation(pad, flip=True), 5, tf.constant(9)).numpy()
  padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  seen = set()
  for image, result in zip(padded, found, strict=True):
    candidates = {}
    for dy in range(2 * pad + 1):
      for dx in range(2 * pad + 1):
        window = image[dy : dy + 8, dx : dx + 6]
        candidates[window.tobytes()] = (dy, dx, False)
        candidates[window[:, ::-1].tobytes()] = (dy, dx, True)
    assert result.tobytes() in candidates
    seen.add(candidates[result.tobytes()])
  assert len(seen) == 18


def test_mirrored_images_are_not_shifted():
  data = dataset(64)
  (images, labels), *_ = data.train_batches(64, seed=3, augment='mirror').take(1)
  whole = next(iter(data.eval_batches('train', 64)))[0].numpy()  # In the order of their labels.
  turned = [np.array_equal(i, whole[n][:, ::-1]) for i, n in zip(images.numpy(), labels.numpy())]
  same = [np.array_equal(i, whole[n]) for i, n in zip(images.numpy(), labels.numpy())]
  assert all(a != b for a, b in zip(turned, same))
  assert 10 < sum(turned) < 54


def test_nothing_changes_without_augmentation():
  images = np.random.RandomState(0).randint(0, 256, (3, 8, 6, 3), np.uint8)
  found = augmented(tf.constant(images), Augmentation(), 0, tf.constant(0))
  np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize('batch_size', [1, 7, 50, 64])
def test_evaluation_sees_every_sample_once(batch_size):
  labels = [y for _, y in dataset().eval_batches('eval', batch_size).as_numpy_iterator()]
  np.testing.assert_array_equal(np.concatenate(labels), np.arange(50))


def test_hold_out_never_overlaps():
  everything = Split(np.zeros((100, 1, 1, 3), np.uint8), np.arange(100, dtype=np.int32))
  config = DataConfig(nb_smpls_val=30)
  train, val, evaluation = hold_out(everything, everything, config)
  assert len(train) == 70
  assert len(val) == 30
  assert len(evaluation) == 100
  assert not set(train.labels) & set(val.labels)
  fewer, again, _ = hold_out(everything, everything, DataConfig(nb_smpls_val=30, nb_smpls_train=9))
  np.testing.assert_array_equal(again.labels, val.labels)
  assert len(fewer) == 9
  assert set(fewer.labels) <= set(train.labels)


def test_parts_of_samples_sorted_by_class_hold_all_classes():
  labels = np.repeat(np.arange(4, dtype=np.int32), 50)
  everything = Split(labels[:, None, None, None].astype(np.uint8), labels)
  *_, evaluation = hold_out(everything, everything, DataConfig(nb_smpls_eval=40))
  assert len(evaluation) == 40
  assert np.bincount(evaluation.labels).min() >= 4
  assert (np.diff(evaluation.labels) >= 0).all()
  *_, whole = hold_out(everything, everything, DataConfig(nb_smpls_eval=200))
  assert whole is everything
  splits = {'train': everything, 'val': everything, 'eval': everything}
  data = ImageDataset('toy', (1, 1, 1), 'abcd', splits, Augmentation(), preprocess='none')
  for nb in (8, 50):
    seen = data.calibration_images(nb).astype(int).ravel()
    assert len(seen) == nb
    assert np.bincount(seen).min() >= nb // 4
  assert len(data.calibration_images(1)) == 1
  assert len(data.calibration_images(900)) == 200


def test_images_are_held_once():
  """The array gives way to a view of the tensor that is read from."""
  data = dataset()
  before = data.splits['train'].images
  next(iter(data.eval_batches('train', 8)))
  after = data.splits['train'].images
  np.testing.assert_array_equal(before, after)
  assert not np.shares_memory(before, after)
  assert np.shares_memory(after, np.asarray(memoryview(data._tensors('train')[0])))


def test_hold_out_asks_for_no_more_than_there_is():
  few = Split(np.zeros((10, 1, 1, 3), np.uint8), np.arange(10, dtype=np.int32))
  with pytest.raises(UserError, match='has 10 training images'):
    hold_out(few, few, DataConfig(nb_smpls_val=10))
  with pytest.raises(UserError, match='has 10 evaluation images'):
    hold_out(few, few, DataConfig(nb_smpls_eval=11))


def test_digits():
  data = digits.load(DataConfig())
  assert data.image_shape == (32, 32, 3)
  assert (data.nb_samples('train'), data.nb_samples('eval')) == (1437, 360)
  again = digits.load(DataConfig())
  np.testing.assert_array_equal(data.splits['eval'].images, again.splits['eval'].images)
  assert set(np.unique(data.splits['eval'].labels)) == set(range(10))
  assert data.calibration_images(5).shape == (5, 32, 32, 3)


@pytest.mark.parametrize('augment', AUGMENTATIONS)
@pytest.mark.parametrize('start', [0, 5])
def test_shards_of_a_step_are_the_parts_of_the_whole_batch(augment, start):
  """Order and augmentation are those of one process; 50 samples and batches of 12 cross epochs."""
  data = dataset()
  whole = data.train_batches(12, seed=1, start=start, augment=augment).take(6)
  parts = [
    data.train_batches(4, seed=1, start=start, augment=augment, shard=(index, 3)).take(6)
    for index in range(3)
  ]
  for (x, y), *others in zip(whole, *parts, strict=True):
    np.testing.assert_array_equal(x, np.concatenate([part[0] for part in others]))
    np.testing.assert_array_equal(y, np.concatenate([part[1] for part in others]))


@pytest.mark.parametrize('count', [2, 3, 60])
def test_shards_of_an_evaluation_hold_every_sample_once(count):
  """With more processes than samples some have none."""
  labels = [
    int(label)
    for index in range(count)
    for _, batch in dataset().eval_batches('eval', 7, shard=(index, count))
    for label in batch
  ]
  assert sorted(labels) == list(range(50))
