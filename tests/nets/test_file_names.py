"""Folders of very many files: how fast they are listed, and how much memory their names take."""

import os
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from secateurs.nets.datasets import image_folder
from secateurs.nets.datasets.file_names import FileNames, PathTable, names_in


def test_names_are_sorted_bytes_with_an_ending(tmp_path):
  for name in ('b.JPG', 'a.jpg', 'Ä.png', 'note.txt', 'c.jpeg'):
    (tmp_path / name).touch()
  names = names_in(tmp_path, ('.jpg', '.png'))
  assert [os.fsdecode(n) for n in names] == ['a.jpg', 'b.JPG', 'Ä.png']
  assert not len(names_in(tmp_path, ('.gif',)))
  files = FileNames.of([(tmp_path, names), (tmp_path / 'x', names[:1])])
  paths = [str(tmp_path / n) for n in ('a.jpg', 'b.JPG', 'Ä.png', 'x/a.jpg')]
  assert list(files) == paths
  assert list(files.take(np.array([3, 0]))) == [paths[3], paths[0]]
  table = PathTable(files)
  found = tf.data.Dataset.range(4).map(lambda i: table[i])
  assert [os.fsdecode(path) for path in found.as_numpy_iterator()] == paths


def many_links(root, nb_folders, nb_each):
  for label in range(nb_folders):
    folder = root / f'n{label:08d}'
    folder.mkdir(parents=True)
    for number in range(nb_each):
      os.symlink('nothing', folder / f'n{label:08d}_{number:05d}.JPEG')
  return root


def nb_bytes(*splits):
  """What their names take."""
  return sum(split.images.nbytes for split in splits)


def test_names_are_listed_in_little_more_memory_than_they_take(tmp_path):
  """Names of a folder at a time are Python objects, of which each takes as much again."""
  root, size = many_links(tmp_path / 'root', 40, 500), 20_000
  tracemalloc.start()
  _, train, evaluation = image_folder._scan(root)
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert len(train) + len(evaluation) == size
  assert nb_bytes(train, evaluation) < 60 * size
  assert most < 4 * nb_bytes(train, evaluation)


@pytest.mark.slow
def test_a_folder_of_1_300_000_names_is_listed_in_seconds(tmp_path):
  root = many_links(tmp_path / 'root', 1000, 1300)
  began = time.perf_counter()
  classes, train, evaluation = image_folder._scan(root)
  seconds = time.perf_counter() - began
  assert (len(classes), len(train) + len(evaluation)) == (1000, 1_300_000)
  assert seconds < 30
  assert nb_bytes(train, evaluation) < 60 * 1_300_000
