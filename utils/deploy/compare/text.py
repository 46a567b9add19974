"""The comparison in words and cells, and as a table for a terminal."""

from collections.abc import Sequence

from secateurs.utils.deploy.compare.entry import COSTS, Entry, Metric
from secateurs.utils.deploy.compare.grouping import ranked_groups
from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.float_file import PACKED, QUANT, SPARSE
from secateurs.utils.deploy.reports.scores import STANDARD_ERRORS

STAR = '* no other row is smaller or faster and has at least as good a score'
STATISTICS = 're-estimated statistics'
IMAGES = 'images trained / scored'
_MARKS = {SPARSE: 'sparse', QUANT: 'quant', PACKED: 'packed'}
FILES = 'file size is that of the file to deploy; ' + ', '.join(
  f'"{mark}" marks {ending}' for ending, mark in _MARKS.items()
)


def score_text(entry: Entry) -> str:
  """Such as '88.16 %', or '87.90 % (87.71-88.02, 3 seeds)'."""
  if entry.kind is None:
    return units.NOTHING
  text = entry.kind.show(entry.score)
  if len(entry.scores) < 2:
    return text
  low, high = (entry.kind.show(pick(entry.scores)).removesuffix(' %') for pick in (min, max))
  return f'{text} ({low}-{high}, {len(entry.scores)} seeds)'


def cost_text(entry: Entry, metric: Metric) -> str:
  """Such as '0.21 ms (0.48x) *'; the star marks what nothing beats."""
  value, ratio = entry.values[metric.key], entry.ratios[metric.key]
  details = [] if ratio is None or entry.original else [f'{ratio:.2f}x']
  if metric.key == 'file' and entry.file in _MARKS:
    details.append(_MARKS[entry.file])
  share = f' ({", ".join(details)})' if details else ''
  star = ' *' if metric.key in entry.best else ''
  return f'{metric.show(value)}{share}{star}'


def table_cells(group: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
  """Header and rows of the table of one group; columns that nothing is known of are left out."""
  kind = group[0].kind
  columns = [
    (kind.label if kind else 'score', [score_text(entry) for entry in group]),
    *((metric.label, [cost_text(entry, metric) for entry in group]) for metric in COSTS),
    ('before training', [_before_text(entry) for entry in group]),
    (STATISTICS, [_change_text(entry, entry.statistics) for entry in group]),
    ('choosing', [units.fmt_seconds(entry.choosing) for entry in group]),
    (IMAGES, [_images_text(entry) for entry in group]),
    ('time', [units.fmt_seconds(entry.seconds) for entry in group]),
  ]
  optional = ('before training', STATISTICS, 'choosing', IMAGES)
  shown = [(k, v) for k, v in columns if k not in optional or set(v) != {units.NOTHING}]
  names = [f'{number} {entry.name}' for number, entry in enumerate(group, start=1)]
  header = ['', *(label for label, _ in shown)]
  return header, [list(row) for row in zip(names, *(texts for _, texts in shown), strict=True)]


def _before_text(entry: Entry) -> str:
  known = entry.kind is not None and entry.before is not None
  return entry.kind.show(entry.before) if known else units.NOTHING


def _images_text(entry: Entry) -> str:
  if entry.images is None:
    return units.NOTHING
  return ' / '.join(f'{round(number):,}' for number in entry.images)


def _change_text(entry: Entry, change: float | None) -> str:
  known = entry.kind is not None and change is not None
  return entry.kind.show_difference(change) if known else units.NOTHING


def verdicts(group: Sequence[Entry]) -> list[str]:
  """Which compressed network keeps the original's score within the noise at the least cost.

  Empty without an original, or if the noise of the scores is unknown.
  """
  original = next((entry for entry in group if entry.original), None)
  known = [e for e in group if _is_cheaper(e) and None not in (e.score, e.change_noise)]
  if original is None or not known:
    return []

  def named(entry: Entry) -> str:
    return f'row {group.index(entry) + 1}, {entry.name.partition(", ")[0]}'

  label = original.kind.label
  kept = [e for e in known if original.gain - e.gain <= STANDARD_ERRORS * e.change_noise]
  if not kept:
    best = max(known, key=lambda entry: entry.gain)
    change = original.kind.show_difference(best.score - original.score)
    return [f"No {label} is within the noise of the original's; nearest: {named(best)} ({change})."]
  lines = []
  for key, word in (('file', 'Smallest file'), ('latency', 'Fastest')):
    ranked = [entry for entry in kept if (entry.ratios[key] or 1) < 1]
    if ranked:
      best = min(ranked, key=lambda entry: entry.ratios[key])
      ratio = f'{best.ratios[key]:.2f}x'
      lines.append(
        f"{word} with {label} within the noise of the original's: {named(best)} ({ratio})."
      )
  return lines


def _is_cheaper(entry: Entry) -> bool:
  """Whether it is smaller or faster than its original, which only entries after compression are."""
  return any((entry.ratios[key] or 1) < 1 for key in ('file', 'latency'))


def format_comparison(found: Sequence[Entry]) -> str:
  """The table for a terminal, one part for each group that is ranked together."""
  parts = []
  for heading, group in ranked_groups(found).items():
    header, rows = table_cells(group)
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
      '  '.join(
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
      )
      for row in (header, *rows)
    ]
    parts.append('\n'.join([heading, lines[0], '-' * len(lines[0]), *lines[1:], *verdicts(group)]))
  parts.append('\n'.join([STAR, *([FILES] if any(e.file in _MARKS for e in found) else [])]))
  return '\n\n'.join(parts)
