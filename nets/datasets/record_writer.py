"""Writes TFRecord shards of ILSVRC-12 from images in folders, with several processes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import filelock
import numpy as np
from tqdm import tqdm

from secateurs.nets.datasets.record_items import Item
from secateurs.nets.datasets.record_shard import Written, list_of, try_read, write_shard
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.files import atomic_path, require_writable
from secateurs.utils.quiet import quiet_tensorflow

MANIFEST = 'build.json'
_ORDER_SEED = 2012


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
    UserError: too many images cannot be read, `out` contains shards of other images, or another
      command is writing there.
  """
  require_writable(out)
  try:
    with filelock.FileLock(out / '.lock', timeout=0):
      return _build(items, out, nb_shards, nb_workers, nb_corrupt_max)
  except filelock.Timeout as error:
    raise UserError(
      f'Another command is writing shards to {out}: wait until it has ended, or give another folder.'
    ) from error


def _build(
  items: dict[str, list[Item]],
  out: Path,
  nb_shards: dict[str, int],
  nb_workers: int,
  nb_corrupt_max: int,
) -> dict[str, Written]:
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
  listed = list_of(shard)
  if not shard.exists() or not listed.exists():
    return []
  paths = {item.path for item in items}
  try:
    entries = [(path, reason) for path, reason in json.loads(listed.read_text(encoding='utf-8'))]
    if all(path in paths and isinstance(try_read(path), Exception) for path, _ in entries):
      return entries
  except (ValueError, TypeError, RecursionError):  # A damaged list: the shard is written again.
    pass
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
    try:
      found = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
      raise UserError(
        f'{path} is damaged ({first_line(error)}), but it should say which images the shards hold: '
        'give another folder, or delete it with the shards.'
      ) from error
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
    yield from map(write_shard, tasks)
    return
  # TensorFlow does not survive a fork.
  with ProcessPoolExecutor(
    min(nb_workers, len(tasks)), get_context('spawn'), quiet_tensorflow
  ) as pool:
    yield from pool.map(write_shard, tasks)
