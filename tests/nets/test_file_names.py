"""Folders of very many files: how fast they are listed, and how much memory their names take."""

import os
import time

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


@pytest.mark.slow
def test_a_folder_of_1_300_000_names_is_listed_in_seconds(tmp_path):
  for label in range(1000):
    folder = tmp_path / 'root' / f'n{label:08d}'
    folder.mkdir(parents=True)
    for number in range(1300):
      os.symlink('nothing', folder / f'n{label:08d}_{number:05d}.JPEG')
  began = time.perf_counter()
  classes, train, evaluation = image_folder._scan(tmp_path / 'root')
  seconds = time.perf_counter() - began
  assert (len(classes), len(train) + len(evaluation)) == (1000, 1_300_000)
  assert seconds < 30
  size = sum(
    split.images.names.nbytes + split.images.folder.nbytes for split in (train, evaluation)
  )
  assert size < 60 * 1_300_000
