"""The command line of the comparison."""

import argparse
import sys
from collections.abc import Sequence

from secateurs.utils.deploy.compare.grouping import entries
from secateurs.utils.deploy.compare.page import write_comparison
from secateurs.utils.deploy.compare.reading import find_reports
from secateurs.utils.deploy.compare.text import format_comparison
from secateurs.utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
  """Compares the runs that the command line names; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m secateurs.utils.deploy.compare',
    description='Compares runs by their report.json files: one table, one page with plots.',
  )
  parser.add_argument('runs', nargs='+', metavar='RUN_DIR', help='folders of finished runs')
  parser.add_argument('--out', default='.', help='folder of compare.html and compare.json')
  options = parser.parse_args(argv)
  try:
    found = entries(find_reports(options.runs))
    print(format_comparison(found))
    for path in write_comparison(found, options.out).values():
      print(path)
  except UserError as error:
    print(f'Error: {error}', file=sys.stderr)
    return 1
  return 0
