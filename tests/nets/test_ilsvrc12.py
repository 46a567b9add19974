import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from record_files import COLOURS, example, jpeg, write_shards

from secateurs.nets.datasets import crops, ilsvrc12
from secateurs.nets.datasets.ilsvrc12 import Ilsvrc12Config, explain
from secateurs.nets.datasets.pixels import normalize
from secateurs.utils.errors import UserError


def load(folder, **options):
  return ilsvrc12.load(
    Ilsvrc12Config(**({'data_dir_local': str(folder), 'image_size': 32} | options))
  )


def labels(dataset):
  return np.concatenate([y for _, y in dataset.as_numpy_iterator()])


def test_batches(tiny_ilsvrc12):
  data = load(tiny_ilsvrc12)
  assert (data.nb_samples('train'), data.nb_samples('val'), data.nb_samples('eval')) == (66, 0, 20)
  images, found = next(iter(data.train_batches(8, seed=0)))
  assert images.shape == (8, 32, 32, 3)
  assert (images.dtype, found.dtype) == (tf.float32, tf.int32)
  means = {
    label - 1: normalize(np.array([[colour]], np.float32)) for label, colour in COLOURS.items()
  }
  for image, label in zip(images.numpy(), found.numpy(), strict=True):
    distance = {k: np.abs(image.mean((0, 1)) - m[0, 0]).max() for k, m in means.items()}
    assert min(distance, key=distance.get) == label
    assert distance[label] < 0.3


@pytest.mark.parametrize('start', [1, 8, 9, 20])
def test_batches_are_a_function_of_seed_and_step(tiny_ilsvrc12, start):
  whole = list(load(tiny_ilsvrc12).train_batches(8, seed=3).take(22).as_numpy_iterator())
  entered = load(tiny_ilsvrc12).train_batches(8, seed=3, start=start).take(22 - start)
  for (x, y), (x2, y2) in zip(whole[start:], entered.as_numpy_iterator(), strict=True):
    np.testing.assert_array_equal(x, x2)
    np.testing.assert_array_equal(y, y2)


@pytest.mark.parametrize('batch_size', [1, 7, 20, 64])
def test_evaluation_sees_every_sample_once(tiny_ilsvrc12, batch_size):
  found = labels(load(tiny_ilsvrc12).eval_batches('eval', batch_size))
  np.testing.assert_array_equal(np.sort(found), np.sort(np.tile([0, 1, 998, 999], 5)))


def test_processes_share_the_samples(tiny_ilsvrc12):
  data = load(tiny_ilsvrc12)
  parts = [labels(data.eval_batches('eval', 6, shard=(i, 2))) for i in range(2)]
  assert sum(map(len, parts)) == 20
  streams = [data.train_batches(11, 0, augment='none', shard=(i, 2)) for i in range(2)]
  images = [np.concatenate([x for x, _ in s.take(3).as_numpy_iterator()]) for s in streams]
  distinct = {image.tobytes() for part in images for image in part}
  assert len(distinct) == 66 - abs(sum(map(len, images)) - 66)
  with pytest.raises(UserError, match='too few for 9 processes'):
    data.eval_batches('eval', 6, shard=(8, 9))


def test_mirrored_images_are_cut_like_those_of_evaluation(tiny_ilsvrc12):
  data = load(tiny_ilsvrc12)
  known = {x[0].tobytes() for x, _ in data.eval_batches('train', 1).as_numpy_iterator()}
  images, _ = next(data.train_batches(66, 0, augment='mirror').as_numpy_iterator())
  same = [image.tobytes() in known for image in images]
  turned = [np.ascontiguousarray(image[:, ::-1]).tobytes() in known for image in images]
  assert all(a or b for a, b in zip(same, turned, strict=True))
  assert 0 < sum(turned) < 66


def test_held_out_images_are_no_training_images(tiny_ilsvrc12):
  data = load(tiny_ilsvrc12, nb_smpls_val=20, nb_smpls_train=30, nb_smpls_eval=5)
  assert [data.nb_samples(s) for s in ('train', 'val', 'eval')] == [30, 20, 5]
  images = {
    split: {x.tobytes() for x, _ in data.eval_batches(split, 1).as_numpy_iterator()}
    for split in ('train', 'val')
  }
  assert [len(images[s]) for s in ('train', 'val')] == [30, 20]
  assert not images['train'] & images['val']
  again = load(tiny_ilsvrc12, nb_smpls_val=20)
  assert {x.tobytes() for x, _ in again.eval_batches('val', 1).as_numpy_iterator()} == images['val']
  with pytest.raises(UserError, match='has 66 training images'):
    load(tiny_ilsvrc12, nb_smpls_val=66)


def test_calibration_images(tiny_ilsvrc12):
  data = load(tiny_ilsvrc12)
  assert data.calibration_images(5).shape == (5, 32, 32, 3)
  assert data.calibration_images(500).shape == (66, 32, 32, 3)


def gradient(height, width):
  """Rows rise in red, columns in green."""
  red, green = np.meshgrid(np.linspace(0, 255, height), np.linspace(0, 255, width), indexing='ij')
  return np.stack([red, green, np.full_like(red, 128)], -1).astype(np.uint8)


def test_the_central_crop_is_that_of_resize_then_crop():
  pixels = gradient(300, 400)
  found = crops.central_crop(tf.constant(jpeg(pixels)), 56).numpy()
  short = Image.open(io.BytesIO(jpeg(pixels))).resize((85, 64), Image.Resampling.BILINEAR)
  left = (85 - 56) / 2
  expected = np.asarray(short.crop((round(left), 4, round(left) + 56, 60)), np.float32)
  assert np.abs(found - expected).mean() < 3


def test_random_crops_keep_to_area_and_aspect():
  """Edges of a crop are read off the gradients of the image."""
  height, width = 240, 320
  data = tf.constant(jpeg(gradient(height, width)))
  crop = tf.function(
    lambda i: crops.random_crop(data, 64, tf.stack([tf.constant(5, tf.int64), 2 * i]))
  )
  mirrored, areas = [], []
  for i in range(150):
    image = crop(tf.constant(i, tf.int64)).numpy()
    red, green = image[..., 0].mean(1), image[..., 1].mean(0)
    mirrored.append(green[0] > green[-1])
    tall = abs(red[-1] - red[0]) / 255 * 64 / 63
    wide = abs(green[-1] - green[0]) / 255 * 64 / 63
    areas.append(tall * wide)
    aspect = wide * width / (tall * height)
    assert 0.05 < areas[-1] < 1.05
    assert 0.7 < aspect < 1.45
  assert 0.35 < np.mean(mirrored) < 0.65
  assert min(areas) < 0.2
  assert max(areas) > 0.8


def test_the_same_seed_gives_the_same_crop():
  data = tf.constant(jpeg(gradient(50, 60)))
  one, same, other = (
    crops.random_crop(data, 16, tf.constant([1, i], tf.int64)).numpy() for i in (4, 4, 6)
  )
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 1


def test_broken_records_are_reported_with_their_reason(tmp_path):
  pixels = np.zeros((20, 20, 3), np.uint8)
  assert 'tf.train.Example' in explain(b'\xff\xff\xff')
  assert 'is 0, but 1 to 1000' in explain(example(jpeg(pixels), 0))
  assert 'is PNG' in explain(example(jpeg(pixels, 'PNG'), 5))
  assert 'cannot be decoded' in explain(example(jpeg(gradient(20, 20))[:100], 5))
  write_shards(tmp_path, 'validation', 1, 4)
  with tf.io.TFRecordWriter(str(tmp_path / 'train-00000-of-00001')) as writer:
    for data, label in ((jpeg(pixels), 1), (jpeg(pixels, 'PNG'), 2), (jpeg(pixels), 1001)):
      writer.write(example(data, label))
  data = load(tmp_path)
  _, found = next(iter(data.train_batches(6, seed=0)))
  assert set(found.numpy()) == {0}
  (note,) = data.notes()
  assert 'record 1 of train-00000-of-00001 (its image is PNG' in note
  assert 'record 2 of train-00000-of-00001 (image/class/label is 1001' in note


def test_preprocessing_is_that_of_keras():
  from tf_keras.applications import imagenet_utils

  pixels = np.random.RandomState(0).randint(0, 256, (4, 5, 6, 3)).astype(np.float32)
  for mode in ('torch', 'tf', 'caffe'):
    expected = imagenet_utils.preprocess_input(pixels.copy(), mode=mode)
    np.testing.assert_allclose(normalize(tf.constant(pixels), mode), expected, atol=1e-4)


def test_no_folder(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('SECATEURS_DATA', raising=False)
  with pytest.raises(UserError, match='No folder of ILSVRC-12 was named'):
    ilsvrc12.load(Ilsvrc12Config())
  with pytest.raises(UserError, match=r'has no files train-\*-of-\*'):
    load(tmp_path)


def test_the_real_sample(ilsvrc12_sample):
  data = load(ilsvrc12_sample, image_size=224)
  found = labels(data.eval_batches('eval', 64))
  assert len(found) == data.nb_samples('eval') == len(np.unique(found))
  images, _ = next(iter(data.train_batches(64, seed=0)))
  assert abs(float(tf.reduce_mean(images))) < 0.3
  assert 0.6 < float(tf.math.reduce_std(images)) < 1.4
  assert data.notes() == []
