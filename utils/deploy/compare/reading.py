"""Finds the reports of runs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.pages.report import read_report
from secateurs.utils.errors import UserError, first_line


def find_reports(folders: Iterable[str | Path]) -> dict[Path, dict[str, Any]]:
  """Returns all checked reports in or below some folders (or named themselves), by path.

  Raises:
    UserError: a folder holds none, or a file is no report.
  """
  found: dict[Path, dict[str, Any]] = {}
  for folder in map(Path, folders):
    paths = [folder] if folder.is_file() else _without_links(folder)
    if not paths:
      raise UserError(
        f'{folder} holds no report.json: give run folders of finished runs, such as '
        './runs/resnet20_at_cifar10.'
      )
    for path in paths:
      try:
        found[path] = read_report(path)
      except (OSError, ValueError, RecursionError) as error:
        raise UserError(
          f'{path} is no report of this program ({first_line(error)}): run the command that '
          'made it again, or do not name it.'
        ) from error
  return found


def _without_links(folder: Path) -> list[Path]:
  """All reports below a folder; of a chain only the last one, which holds the others.

  Raises:
    UserError: the summary of a chain is damaged.
  """
  paths = sorted(folder.glob('**/report.json'))
  for summary in sorted(folder.glob('**/chain.json')):
    last = summary.parent / _last_report(summary)
    paths = [path for path in paths if path == last or summary.parent not in path.parents]
  return paths


def _last_report(summary: Path) -> str:
  try:
    found = json.loads(summary.read_text('utf-8'))['report']
    if not isinstance(found, str) or not found:
      raise ValueError(f'its report is {found!r}')
  except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
    raise UserError(
      f'{summary} is no summary of a chain ({type(error).__name__}: {error}), but the name of its '
      'report was expected: run the --chain again, which writes it without training, or name the '
      'folders of its links.'
    ) from error
  return found
