"""How an exported model was made: its report lies beside it, for those who compress it further."""

from pathlib import Path
from typing import Any

from secateurs.utils.deploy.pages.report import read_report

_LINK_KEYS = (
  'learner',
  'method',
  'original',
  'pruned',
  'compressed',
  'requested',
  'achieved',
  'parity',
  'seconds_total',
)


def history_path(prefix: Path) -> Path:
  """Where the report of the model exported as `<prefix>.keras` lies."""
  return prefix.with_name(f'{prefix.name}_report.json')


def link_of(report: dict[str, Any]) -> dict[str, Any]:
  """A run as one link of a chain, for the `links` of a report."""
  return {key: report[key] for key in _LINK_KEYS if key in report}


def read_history(model: Path) -> list[dict[str, Any]]:
  """The links that led to an exported .keras file, in schema 2; none if nothing is known of it."""
  try:
    report = read_report(history_path(model.with_suffix('')))
  except (OSError, ValueError, RecursionError):
    return []
  return report.get('links') or [link_of(report)]
