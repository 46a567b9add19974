"""Builds the API reference from the docstrings: python scripts/build_api.py OUT."""

from __future__ import annotations

import sys
from pathlib import Path

MODULES = ('secateurs', '!secateurs.nets.*_run', '!secateurs.learners.__main__')


def main(argv: list[str]) -> int:
  """Writes one HTML page for each module into a folder; returns the exit code."""
  if len(argv) != 1:
    print(__doc__, file=sys.stderr)
    return 2
  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  import pdoc

  pdoc.render.configure(docformat='google', show_source=False)
  pdoc.pdoc(*MODULES, output_directory=Path(argv[0]))
  print(f'{argv[0]}/index.html')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
