"""TFRecord shards of ILSVRC-12 from folders of images."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path, require_writable
from secateurs.utils.quiet import quiet_tensorflow

SUFFIXES = ('.jpeg', '.jpg', '.png')
MANIFEST, LEFT_OUT = 'build.json', 'left_out.txt'
_QUALITY = 95
_ORDER_SEED = 2012


@dataclasses.dataclass(frozen=True)
class Item:
  """One image: its file, its class's folder name, and its label from 1 on."""

  path: str
  synset: str
  label: int


@dataclasses.dataclass(frozen=True)
class Written:
  """What became of a shard: records in it, and the files left out with the reason."""

  nb_images: int
  nb_records: int
  left_out: tuple[tuple[str, str], ...]


def find_items(source: Path, val_labels: Path | None = None) -> dict[str, list[Item]]:
  """Finds train/<class>/* and val/<class>/*, or val/* with the classes in a file.

  Labels count the folders below train in the order of their names, from 1.

  Args:
    source: the folder with train and val (or validation).
    val_labels: file with the class of each image of a flat val folder, one a line, in the order of the
      images' names.

  Returns:
    Items of `train` and `validation`.

  Raises:
    UserError: a folder is missing or empty, or classes do not fit together.
  """
  train = source / 'train'
  val = next((source / n for n in ('val', 'validation') if (source / n).is_dir()), None)
  if not train.is_dir() or val is None:
    raise UserError(f'{source} was expected to hold the folders train and val: give such a folder.')
  synsets = sorted(p.name for p in train.iterdir() if p.is_dir())
  labels = {synset: number for number, synset in enumerate(synsets, 1)}
  if not synsets:
    raise UserError(f'{train} has no folders, but one for each class was expected.')
  found = {'train': _of_folders(train, labels)}
  flat = _images(val)
  found['validation'] = (
    _of_file(val, flat, val_labels, labels) if flat else _of_folders(val, labels)
  )
  return found


def _of_folders(root: Path, labels: dict[str, int]) -> list[Item]:
  folders = sorted(p for p in root.iterdir() if p.is_dir())
  unknown = [folder.name for folder in folders if folder.name not in labels]
  if unknown:
    raise UserError(
      f'{root} has the class {unknown[0]}, which is no folder below train: add or delete it.'
    )
  items = [Item(str(p), f.name, labels[f.name]) for f in folders for p in _images(f)]
  if not items:
    raise UserError(f'{root} has no images ({", ".join(SUFFIXES)}): put some there.')
  return items


def _of_file(
  root: Path, paths: list[Path], val_labels: Path | None, labels: dict[str, int]
) -> list[Item]:
  if val_labels is None:
    raise UserError(
      f'{root} holds images without folders of classes: give --val_labels with the class of each, '
      'or sort them into folders.'
    )
  try:
    synsets = val_labels.read_text(encoding='utf-8').split()
  except OSError as error:
    raise UserError(f'--val_labels {val_labels} cannot be read ({error.strerror}).') from error
  if len(synsets) != len(paths):
    raise UserError(
      f'--val_labels {val_labels} has {len(synsets)} lines, but {root} has {len(paths)} images.'
    )
  unknown = [synset for synset in synsets if synset not in labels]
  if unknown:
    raise UserError(f'--val_labels {val_labels} has {unknown[0]}, which is no folder below train.')
  return [Item(str(p), s, labels[s]) for p, s in zip(paths, synsets, strict=True)]


def _images(folder: Path) -> list[Path]:
  return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def build(
  items: dict[str, list[Item]],
  out: Path,
  nb_shards: dict[str, int],
  *,
  nb_workers: int,
  nb_corrupt_max: int,
) -> dict[str, Written]:
  """Writes all shards that are not there yet; each appears whole or not at all.

  Args:
    items: images by split.
    out: folder of the shards.
    nb_shards: number of files by split.
    nb_workers: processes.
    nb_corrupt_max: images that may be left out.

  Returns:
    What was written by split, shards of earlier calls left out.

  Raises:
    UserError: too many images cannot be read, or `out` holds shards of other images.
  """
  require_writable(out)
  _check_manifest(items, out, nb_shards)
  results, nb_left_out = {}, 0
  for split, images in items.items():
    tasks = _tasks(out, split, images, nb_shards[split])
    left_out: list[tuple[str, str]] = []
    nb_images = sum(len(part) for _, part in tasks)
    with tqdm(total=nb_images, desc=split, unit='image') as progress:
      for written in _written(tasks, nb_workers):
        progress.update(written.nb_images)
        left_out += written.left_out
        nb_left_out += len(written.left_out)
        _log(out / LEFT_OUT, written.left_out)
        if nb_left_out > nb_corrupt_max:
          raise UserError(
            f'{nb_left_out} images cannot be read, such as {left_out[-1][0]} ({left_out[-1][1]}), but '
            f'--nb_corrupt_max allows {nb_corrupt_max}: mend them, or allow more.'
          )
    results[split] = Written(nb_images, nb_images - len(left_out), tuple(left_out))
  return results


def _tasks(
  out: Path, split: str, images: list[Item], nb_shards: int
) -> list[tuple[Path, list[Item]]]:
  """The shards of a split that are not there yet, each with its images; classes are mixed."""
  parts = np.array_split(np.random.RandomState(_ORDER_SEED).permutation(len(images)), nb_shards)
  tasks = [
    (out / f'{split}-{number:05d}-of-{nb_shards:05d}', [images[i] for i in part])
    for number, part in enumerate(parts)
  ]
  return [task for task in tasks if not task[0].exists()]


def _check_manifest(items: dict[str, list[Item]], out: Path, nb_shards: dict[str, int]) -> None:
  """Tells shards of other images from those of an earlier, interrupted call."""
  manifest = {split: [len(images), nb_shards[split]] for split, images in items.items()}
  path = out / MANIFEST
  if path.is_file():
    found = json.loads(path.read_text(encoding='utf-8'))
    if found != manifest:
      raise UserError(
        f'{out} was begun with other images or numbers of shards ({found}, now {manifest}): give '
        'another folder, or delete it.'
      )
    return
  with atomic_path(path) as partial:
    partial.write_text(json.dumps(manifest), encoding='utf-8')


def _written(tasks: Sequence[tuple[Path, list[Item]]], nb_workers: int) -> Iterator[Written]:
  if min(nb_workers, len(tasks)) <= 1:
    yield from map(_write_shard, tasks)
    return
  # TensorFlow does not survive a fork.
  with ProcessPoolExecutor(
    min(nb_workers, len(tasks)), get_context('spawn'), quiet_tensorflow
  ) as pool:
    yield from pool.map(_write_shard, tasks)


def _write_shard(task: tuple[Path, list[Item]]) -> Written:
  import tensorflow as tf

  path, items = task
  left_out = []
  with atomic_path(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
    for item in items:
      try:
        data, (width, height) = as_jpeg(Path(item.path).read_bytes())
      except Exception as error:  # PIL raises what the format's code raises.
        left_out.append((item.path, str(error) or type(error).__name__))
        continue
      writer.write(_example(item, data, height, width))
  return Written(len(items), len(items) - len(left_out), tuple(left_out))


def as_jpeg(data: bytes) -> tuple[bytes, tuple[int, int]]:
  """An image file as JPEG in RGB or grey, byte by byte the same where it is; and (width, height).

  ILSVRC-12 has a PNG image among its JPEG files, and some in CMYK. The whole file is decoded, at an
  eighth of its size where the format allows, so that a damaged one is found.

  Raises:
    Exception: of PIL; it is no image, or damaged.
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
    'image/filename': texts(Path(item.path).name.encode()),
    'image/height': numbers(height),
    'image/width': numbers(width),
    'image/class/label': numbers(item.label),
    'image/class/synset': texts(item.synset.encode()),
  }
  # A map's order is any otherwise, and a shard that is written again would be another file.
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString(deterministic=True)


def _log(path: Path, left_out: Sequence[tuple[str, str]]) -> None:
  if left_out:
    with path.open('a', encoding='utf-8') as file:
      file.writelines(f'{name}\t{reason}\n' for name, reason in left_out)
