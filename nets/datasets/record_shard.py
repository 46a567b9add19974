"""Writes one TFRecord shard of ILSVRC-12: images as JPEG, and the list of those that cannot be read."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path

from secateurs.nets.datasets.record_items import Item
from secateurs.utils.files import atomic_path

LEFT_OUT = 'left_out'
_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class Written:
  """A written shard: number of records, and the skipped files with the reason."""

  nb_images: int
  nb_records: int
  left_out: tuple[tuple[str, str], ...]


def write_shard(task: tuple[Path, list[Item]]) -> Written:
  """Writes the shard of a path and its images; it appears only when it is complete."""
  import tensorflow as tf

  path, items = task
  left_out = []
  with atomic_path(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
    for item in items:
      found = try_read(item.path)
      if isinstance(found, Exception):
        left_out.append((item.path, str(found) or type(found).__name__))
        continue
      data, (width, height) = found
      writer.write(_example(item, data, height, width))
    # Written before the shard appears, so that no shard is without its list.
    listed = list_of(path)
    if left_out:
      with atomic_path(listed) as partial_list:
        partial_list.write_text(json.dumps(left_out, indent=1), encoding='utf-8')
    else:
      listed.unlink(missing_ok=True)
  return Written(len(items), len(items) - len(left_out), tuple(left_out))


def list_of(shard: Path) -> Path:
  """Returns the file that lists the images that a shard skipped."""
  return shard.parent / LEFT_OUT / f'{shard.name}.json'


def try_read(path: str) -> tuple[bytes, tuple[int, int]] | Exception:
  """Returns the result of `as_jpeg`, or the exception that it raised."""
  try:
    return as_jpeg(Path(path).read_bytes())
  except Exception as error:  # PIL raises any exception of the format's decoder.
    return error


def as_jpeg(data: bytes) -> tuple[bytes, tuple[int, int]]:
  """Converts an image file to JPEG in RGB or grey; returns the data and (width, height).

  Data that is already such a JPEG is returned unchanged. ILSVRC-12 has a PNG image among its JPEG
  files, and some in CMYK. The whole file is decoded, at an eighth of its size where the format allows
  it, to find damage.

  Raises:
    Exception: any exception of PIL; the file is not an image, or is damaged.
  """
  from PIL import Image

  image = Image.open(io.BytesIO(data))
  size = image.size
  if image.format == 'JPEG' and image.mode in ('RGB', 'L'):
    image.draft(image.mode, (max(size[0] // 8, 1), max(size[1] // 8, 1)))
    image.load()
    return data, size
  encoded = io.BytesIO()
  image.convert('RGB').save(encoded, 'JPEG', quality=_QUALITY)
  return encoded.getvalue(), size


def _example(item: Item, data: bytes, height: int, width: int) -> bytes:
  import tensorflow as tf

  def texts(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

  def numbers(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

  features = {
    'image/encoded': texts(data),
    'image/filename': texts(os.fsencode(Path(item.path).name)),
    'image/height': numbers(height),
    'image/width': numbers(width),
    'image/class/label': numbers(item.label),
    'image/class/synset': texts(os.fsencode(item.synset)),
  }
  # Otherwise the order of the map is undefined, and a rewritten shard would be a different file.
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString(deterministic=True)
