"""Small TFRecord files of coloured images."""

import io

import numpy as np
from PIL import Image

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
