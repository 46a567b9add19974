"""The flag of searches and scans that judge several candidates or layers at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateurs.utils.config import option


def jobs_option(judged: str, used_with: Mapping[str, Any]) -> Any:
  """The option `jobs` of a learner.

  Args:
    judged: what is judged, such as `Layers of the scan of auto`.
    used_with: see `option`.
  """
  return option(
    1,
    f'{judged} that are judged at the same time, each on its own network, as far as they do not '
    'depend on each other; the results are the same.',
    low=1,
    used_with=used_with,
    affects_result=False,
  )
