"""sensitivity.json and sensitivity.html: what each layer of a network can lose, apart from a run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.pages.page import environment
from secateurs.utils.files import atomic_path

_CAPTION = 'Drop of the score when channels of one layer alone are removed, without training.'
_LABEL = 'removed from the layer, %'


def write_scan(result: Mapping[str, Any], folder: str | os.PathLike) -> list[Path]:
  """Writes both files, each whole or not at all.

  Args:
    result: `net`, `dataset`, `weights`, `criterion`, `split`, `samples`, `left_whole`; `curves`,
      (fraction gone, drop) pairs by layer; `table`, the drop at each tenth by layer; and, if they were
      measured, `selections`: by way to choose and layer the curves `error` and `drop`.
    folder: of the run's report.

  Returns:
    Their paths.
  """
  from secateurs.utils.deploy.pages import plots

  paths = [Path(folder) / f'sensitivity.{ending}' for ending in ('json', 'html')]
  page = (
    environment()
    .get_template('sensitivity.html.j2')
    .render(
      result=result,
      caption=_CAPTION,
      plot=plots.family(_CAPTION, _LABEL, result['curves']),
      selections=_selections(result.get('selections') or {}),
    )
  )
  for path, content in zip(paths, (json.dumps(result, indent=2) + '\n', page), strict=True):
    with atomic_path(path) as partial:
      partial.write_text(content, encoding='utf-8', errors='backslashreplace')
  return paths


def _selections(selections: Mapping[str, Any]) -> list[tuple[str, str]]:
  """For each layer (caption, drawing) of the error and of the drop, one curve a way to choose."""
  from secateurs.utils.deploy.pages import plots

  found = []
  for name in next(iter(selections.values()), {}):
    for kind, what in (('error', 'output error, of its variance'), ('drop', 'drop of the score')):
      caption = f'{name}: {what}, by how its inputs are chosen'
      series = {title: layers[name][kind] for title, layers in selections.items()}
      found.append((caption, plots.family(caption, _LABEL, series)))
  return found
