"""Finds the reports of runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.report import read_report
from secateurs.utils.errors import UserError


def find_reports(folders: Iterable[str | Path]) -> dict[Path, dict[str, Any]]:
  """Returns all checked reports in or below some folders (or named themselves), by path.

  Raises:
    UserError: a folder holds none, or a file is no report.
  """
  found: dict[Path, dict[str, Any]] = {}
  for folder in map(Path, folders):
    paths = [folder] if folder.is_file() else sorted(folder.glob('**/report.json'))
    if not paths:
      raise UserError(
        f'{folder} holds no report.json: give run folders of finished runs, such as '
        './runs/resnet20_at_cifar10.'
      )
    for path in paths:
      try:
        found[path] = read_report(path)
      except (OSError, ValueError) as error:
        raise UserError(
          f'{path} is no report of this program ({str(error).splitlines()[0]}): run the command that '
          'made it again, or do not name it.'
        ) from error
  return found
