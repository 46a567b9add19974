"""Shared set-up: TensorFlow without its start-up messages, small data sets, where real data lies."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()


@pytest.fixture(scope='session')
def cifar10_folder() -> Path:
  """The folder of real CIFAR-10, from SECATEURS_TEST_CIFAR10."""
  folder = os.environ.get('SECATEURS_TEST_CIFAR10')
  if not folder:
    pytest.skip('SECATEURS_TEST_CIFAR10 names no folder with CIFAR-10')
  return Path(folder)


@pytest.fixture(scope='session')
def trained_weights() -> Path:
  """The folder of trained CIFAR ResNets as .npz, from SECATEURS_TEST_WEIGHTS."""
  folder = os.environ.get('SECATEURS_TEST_WEIGHTS')
  if not folder:
    pytest.skip('SECATEURS_TEST_WEIGHTS names no folder with resnet*_cifar10.npz')
  return Path(folder)


@pytest.fixture(scope='session')
def ilsvrc12_sample() -> Path:
  """The folder of some real ILSVRC-12 records, from SECATEURS_TEST_ILSVRC12."""
  folder = os.environ.get('SECATEURS_TEST_ILSVRC12')
  if not folder:
    pytest.skip('SECATEURS_TEST_ILSVRC12 names no folder with train-*-of-* and validation-*-of-*')
  return Path(folder)


@pytest.fixture(scope='session')
def tiny_ilsvrc12(tmp_path_factory) -> Path:
  """Shards of small JPEG images in four colours, which are their labels 1, 2, 999 and 1000."""
  folder = tmp_path_factory.mktemp('ilsvrc12')
  write_shards(folder, 'train', nb_shards=4, nb_images=66)
  write_shards(folder, 'validation', nb_shards=2, nb_images=20, seed=1)
  return folder


COLOURS = {1: (220, 40, 40), 2: (40, 220, 40), 999: (40, 40, 220), 1000: (220, 220, 40)}


def write_shards(folder, split, nb_shards, nb_images, seed=0):
  """Writes images of varying sizes, round about their class's colour, as TFRecord shards."""
  import tensorflow as tf

  rng = np.random.default_rng(seed)
  serialized = []
  for i in range(nb_images):
    label = list(COLOURS)[i % len(COLOURS)]
    size = rng.integers(40, 60, 2)
    noise = rng.normal(0, 20, (*size, 3))
    pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    serialized.append(example(jpeg(pixels), label))
  for shard in range(nb_shards):
    path = folder / f'{split}-{shard:05d}-of-{nb_shards:05d}'
    with tf.io.TFRecordWriter(str(path)) as writer:
      for record in serialized[shard::nb_shards]:
        writer.write(record)


def jpeg(pixels, kind='JPEG'):
  """Encodes uint8 [h, w, 3]."""
  data = io.BytesIO()
  Image.fromarray(pixels).save(data, kind)
  return data.getvalue()


def example(data, label):
  """A serialized tf.train.Example."""
  import tensorflow as tf

  features = tf.train.Features(
    feature={
      'image/encoded': tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
      'image/class/label': tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
  )
  return tf.train.Example(features=features).SerializeToString()
