"""Builds TFRecord shards of ILSVRC-12: python scripts/build_ilsvrc12.py SOURCE OUT [flags].

SOURCE contains train/<class>/*.JPEG, and val/<class>/*.JPEG or val/*.JPEG with --val_labels FILE, the
class of each image in the order of the images' names. Every image is decoded once; damaged images are
skipped and listed in the folder OUT/left_out. Run the same command again to resume an interrupted
build, or to add images that you have fixed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from secateurs.nets.datasets.record_items import find_items
from secateurs.nets.datasets.record_writer import build
from secateurs.utils.errors import UserError


def main(argv: list[str] | None = None) -> int:
  """Builds the shards; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('source', type=Path)
  parser.add_argument('out', type=Path)
  parser.add_argument('--val_labels', type=Path, help='classes of a flat val folder')
  parser.add_argument('--nb_shards_train', type=int, default=1024)
  parser.add_argument('--nb_shards_val', type=int, default=128)
  parser.add_argument('--nb_workers', type=int, default=os.cpu_count())
  parser.add_argument('--nb_corrupt_max', type=int, default=100, help='images that may be skipped')
  options = parser.parse_args(argv)
  try:
    written = build(
      find_items(options.source, options.val_labels),
      options.out,
      {'train': options.nb_shards_train, 'validation': options.nb_shards_val},
      nb_workers=options.nb_workers,
      nb_corrupt_max=options.nb_corrupt_max,
    )
  except UserError as error:
    print(f'Error: {error}', file=sys.stderr)
    return 1
  for split, one in written.items():
    print(f'{split}: {one.nb_records} images written, {len(one.left_out)} skipped')
  return 0


if __name__ == '__main__':
  sys.exit(main())
