"""Writes TFRecord shards of ILSVRC-12 from folders of images."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
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
MANIFEST, LEFT_OUT = 'build.json', 'left_out'
_QUALITY = 95
_ORDER_SEED = 2012


@dataclasses.dataclass(frozen=True)
class Item:
  """One image: its file, the folder name of its class, and its label (from 1)."""

  path: str
  synset: str
  label: int


@dataclasses.dataclass(frozen=True)
class Written:
  """A written shard: number of records, and the skipped files with the reason."""

  nb_images: int
  nb_records: int
  left_out: tuple[tuple[str, str], ...]


def find_items(source: Path, val_labels: Path | None = None) -> dict[str, list[Item]]:
  """Finds train/<class>/* and val/<class>/*, or val/* with the classes in a file.

  Labels number the folders below train in the order of their names, from 1. Names that begin with a
  dot are ignored.

  Args:
    source: the folder with train and val (or validation).
    val_labels: file with the class of each image of a flat val folder, one per line, in the order of
      the images' names.

  Returns:
    Items of `train` and `validation`.

  Raises:
    UserError: a folder is missing or empty, or the classes do not match.
  """
  train = source / 'train'
  val = next((source / n for n in ('val', 'validation') if (source / n).is_dir()), None)
  if not train.is_dir() or val is None:
    raise UserError(f'{source} must contain the folders train and val: give such a folder.')
  synsets = [folder.name for folder in _folders(train)]
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
  folders = _folders(root)
  unknown = [folder.name for folder in folders if folder.name not in labels]
  if unknown:
    raise UserError(
      f'{root} has the class {unknown[0]}, which is not a folder below train: add or delete it.'
    )
  items = [Item(str(p), f.name, labels[f.name]) for f in folders for p in _images(f)]
  if not items:
    raise UserError(f'{root} has no images ({", ".join(SUFFIXES)}): add some.')
  return items


def _of_file(
  root: Path, paths: list[Path], val_labels: Path | None, labels: dict[str, int]
) -> list[Item]:
  if val_labels is None:
    raise UserError(
      f'{root} contains images without class folders: give --val_labels with the class of each image, '
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
    raise UserError(
      f'--val_labels {val_labels} has {unknown[0]}, which is not a folder below train.'
    )
  return [Item(str(p), s, labels[s]) for p, s in zip(paths, synsets, strict=True)]


def _folders(root: Path) -> list[Path]:
  return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))


def _images(folder: Path) -> list[Path]:
  found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
  return sorted(p for p in found if not p.name.startswith('.'))


def build(
  items: dict[str, list[Item]],
  out: Path,
  nb_shards: dict[str, int],
  *,
  nb_workers: int,
  nb_corrupt_max: int,
) -> dict[str, Written]:
  """Writes all shards that do not exist yet; a shard appears only when it is complete.

  A shard that skipped an image which is readable now is written again.

  Args:
    items: images by split.
    out: folder of the shards.
    nb_shards: number of files by split.
    nb_workers: number of processes.
    nb_corrupt_max: maximum number of skipped images, including those of earlier calls.

  Returns:
    What was written, by split; of shards from earlier calls only the skipped images are included.

  Raises:
    UserError: too many images cannot be read, or `out` contains shards of other images.
  """
  require_writable(out)
  _check_manifest(items, out, nb_shards)
  shards = {split: _shards(out, split, part, nb_shards[split]) for split, part in items.items()}
  left_out = {
    split: [entry for shard in of_split for entry in _left_out_before(*shard)]
    for split, of_split in shards.items()
  }
  _check_limit(left_out, nb_corrupt_max)
  results = {}
  for split, of_split in shards.items():
    tasks = [shard for shard in of_split if not shard[0].exists()]
    nb_images, nb_records = sum(len(part) for _, part in tasks), 0
    with tqdm(total=nb_images, desc=split, unit='image') as progress:
      for written in _written(tasks, nb_workers):
        progress.update(written.nb_images)
        nb_records += written.nb_records
        left_out[split] += written.left_out
        _check_limit(left_out, nb_corrupt_max)
    results[split] = Written(nb_images, nb_records, tuple(left_out[split]))
  return results


def _shards(
  out: Path, split: str, images: list[Item], nb_shards: int
) -> list[tuple[Path, list[Item]]]:
  """Returns the shards of a split, each with its images; classes are mixed."""
  parts = np.array_split(np.random.RandomState(_ORDER_SEED).permutation(len(images)), nb_shards)
  return [
    (out / f'{split}-{number:05d}-of-{nb_shards:05d}', [images[i] for i in part])
    for number, part in enumerate(parts)
  ]


def _left_out_before(shard: Path, items: list[Item]) -> list[tuple[str, str]]:
  """Returns the images that an earlier shard skipped; deletes the shard if one is readable now."""
  listed = _list_of(shard)
  if not shard.exists() or not listed.exists():
    return []
  entries = [tuple(entry) for entry in json.loads(listed.read_text(encoding='utf-8'))]
  paths = {item.path for item in items}
  if all(path in paths and isinstance(_try_read(path), Exception) for path, _ in entries):
    return entries
  shard.unlink()
  return []


def _check_limit(left_out: dict[str, list[tuple[str, str]]], nb_corrupt_max: int) -> None:
  entries = [entry for of_split in left_out.values() for entry in of_split]
  if len(entries) > nb_corrupt_max:
    path, reason = entries[-1]
    raise UserError(
      f'{len(entries)} images cannot be read, such as {path} ({reason}), but --nb_corrupt_max allows '
      f'{nb_corrupt_max}: fix them, or allow more.'
    )


def _check_manifest(items: dict[str, list[Item]], out: Path, nb_shards: dict[str, int]) -> None:
  """Checks that existing shards come from an earlier call with the same images."""
  manifest = {
    split: [len(images), nb_shards[split], _digest(images)] for split, images in items.items()
  }
  path = out / MANIFEST
  if path.is_file():
    found = json.loads(path.read_text(encoding='utf-8'))
    if found != manifest:
      raise UserError(
        f'{out} was started with other images or numbers of shards ({found}, now {manifest}): give '
        'another folder, or delete it.'
      )
    return
  with atomic_path(path) as partial:
    partial.write_text(json.dumps(manifest), encoding='utf-8')


def _digest(images: list[Item]) -> str:
  """Computes a digest of names and labels, independent of the folder."""
  lines = (f'{item.synset}/{os.path.basename(item.path)} {item.label}\n' for item in images)
  return hashlib.sha256(''.join(lines).encode()).hexdigest()[:16]


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
      found = _try_read(item.path)
      if isinstance(found, Exception):
        left_out.append((item.path, str(found) or type(found).__name__))
        continue
      data, (width, height) = found
      writer.write(_example(item, data, height, width))
    # Written before the shard appears, so that no shard is without its list.
    listed = _list_of(path)
    if left_out:
      with atomic_path(listed) as partial_list:
        partial_list.write_text(json.dumps(left_out, indent=1), encoding='utf-8')
    else:
      listed.unlink(missing_ok=True)
  return Written(len(items), len(items) - len(left_out), tuple(left_out))


def _list_of(shard: Path) -> Path:
  """Returns the file that lists the images that a shard skipped."""
  return shard.parent / LEFT_OUT / f'{shard.name}.json'


def _try_read(path: str) -> tuple[bytes, tuple[int, int]] | Exception:
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
    'image/filename': texts(Path(item.path).name.encode()),
    'image/height': numbers(height),
    'image/width': numbers(width),
    'image/class/label': numbers(item.label),
    'image/class/synset': texts(item.synset.encode()),
  }
  # Otherwise the order of the map is undefined, and a rewritten shard would be a different file.
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString(deterministic=True)
