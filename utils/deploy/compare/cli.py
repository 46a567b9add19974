"""The command line of the comparison."""

from collections.abc import Sequence

from secateurs.utils.command_line import Parser, exit_code
from secateurs.utils.deploy.compare.grouping import entries
from secateurs.utils.deploy.compare.page import write_comparison
from secateurs.utils.deploy.compare.reading import find_reports
from secateurs.utils.deploy.compare.text import format_comparison


def main(
  argv: Sequence[str] | None = None, prog: str = 'python -m secateurs.utils.deploy.compare'
) -> int:
  """Compares the runs that the command line names; returns the exit code.

  Args:
    argv: default: that of the process.
    prog: how help and mistakes name the command.
  """
  return exit_code(lambda: _run(argv, prog))


def _run(argv: Sequence[str] | None, prog: str) -> None:
  parser = Parser(
    prog=prog,
    description='Compares runs by their report.json files: one table, one page with plots.',
  )
  parser.add_argument('runs', nargs='+', metavar='RUN_DIR', help='folders of finished runs')
  parser.add_argument('--out', default='.', help='folder of compare.html and compare.json')
  options = parser.parse_args(argv)
  found = entries(find_reports(options.runs))
  print(format_comparison(found))
  for path in write_comparison(found, options.out).values():
    print(path)
