"""Compares runs by their report.json files: one table, and one page with plots.

  python -m secateurs.utils.deploy.compare RUN_DIR... [--out FOLDER]

Runs that differ in nothing but their seed are one row: the mean, and the range of the seeds.
The row of a chain compares what went into its first link with what came out of its last.
Nothing is measured here, and TensorFlow is not loaded.
"""

from secateurs.utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    '.cli': ('main',),
    '.entry': ('COSTS', 'Entry', 'pareto'),
    '.grouping': ('entries', 'ranked_groups'),
    '.page': ('render_page', 'write_comparison'),
    '.reading': ('find_reports',),
    '.text': ('format_comparison',),
  },
)
