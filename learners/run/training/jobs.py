"""The flag of searches whose candidates are judged at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateurs.utils.config import option


def jobs_option(search: str, used_with: Mapping[str, Any]) -> Any:
  """The option `jobs` of a learner.

  Args:
    search: the value or the flag that has candidates judged.
    used_with: see `option`.
  """
  return option(
    1,
    f'Candidates of {search} that are judged at the same time, each on its own network, as far as they '
    'do not depend on each other; the results are the same.',
    low=1,
    used_with=used_with,
    affects_result=False,
  )
