"""One row of a comparison, its costs, and which rows no other one beats."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.blocks import median_latency
from secateurs.utils.deploy.reports.float_file import deployed_file
from secateurs.utils.deploy.reports.scores import ScoreKind


@dataclass(frozen=True)
class Metric:
  """A cost: one column of the table, and one plot of the score against it.

  Attributes:
    key: in the tables of `compare.json`.
    label: for people.
    get: from a block of a report.
    show: formats a value.
  """

  key: str
  label: str
  get: Callable[[Mapping], float | None]
  show: Callable[[float | None], str]


def _file_size(block: Mapping) -> float | None:
  file = deployed_file(block)
  return file.bytes if file else None


COSTS = (
  Metric('file', 'file size', _file_size, units.fmt_bytes),
  Metric('gzip', 'gzipped', lambda b: b.get('tflite_gzip_bytes'), units.fmt_bytes),
  Metric('latency', 'latency', median_latency, units.fmt_ms),
  Metric('macs', 'MACs', lambda b: b.get('macs'), units.fmt_macs),
  Metric('params', 'parameters', lambda b: b.get('params'), units.fmt_count),
)


@dataclass
class Entry:
  """One method, or one original network, over all of its seeds.

  Attributes:
    name: for people, such as 'chn-pruned, cp_select=lasso'.
    net: network and data set.
    kind: what its score is; None if it has none.
    base: parameters and MACs of the network that `ratios` compare with.
    reports: where its figures come from.
    original: whether it is a network before compression.
    scores: one for each seed; of an original one for each that differs.
    noise: standard error of one score, the mean over the runs; None if unknown.
    change_noise: the same of its change from the run's own original; None of an original.
    file: how the name of the file ends whose size counts: the one that is deployed.
    values: mean of each cost over the seeds, by key.
    ratios: the same, each relative to the run's own original, which was measured beside it; a
      chain's is what went into its first link.
    before: mean score of the cut network before its training; None if unknown.
    choosing: mean time of deciding what goes, trainings left out; None if unknown.
    statistics: mean change of the score on training images by re-estimated batch-norm statistics, which
      are taken where it is better; None if unknown.
    seconds: mean time of a whole run.
    images: mean numbers of images trained and scored, without a baseline's; None if unknown.
    best: keys of the costs at which nothing is at least as good in both and better in one.
  """

  name: str
  net: str
  kind: ScoreKind | None
  base: tuple[float | None, float | None]
  reports: list[str]
  original: bool
  scores: list[float]
  noise: float | None
  file: str | None
  values: dict[str, float | None]
  ratios: dict[str, float | None]
  seconds: float | None
  change_noise: float | None = None
  before: float | None = None
  choosing: float | None = None
  statistics: float | None = None
  images: tuple[float, float] | None = None
  best: list[str] = field(default_factory=list)

  @property
  def score(self) -> float | None:
    """Mean over the seeds."""
    return sum(self.scores) / len(self.scores) if self.scores else None

  @property
  def gain(self) -> float:
    """The score with the sign that makes more of it better; the least for an entry without one."""
    return float('-inf') if self.score is None else self.kind.gain(self.score)

  def as_json(self) -> dict[str, Any]:
    """The entry as plain types."""
    kind = asdict(self.kind) if self.kind else None
    return {**vars(self), 'kind': kind, 'score': self.score}


def pareto(group: Sequence[Entry], key: str) -> list[Entry]:
  """The entries that no other one beats, by rising cost and better score.

  Equal ones are all among them; entries without a score or with an unknown cost are not.
  """

  def point(entry: Entry) -> tuple[float, float]:
    return entry.values[key], -entry.gain

  front: list[Entry] = []
  known = (e for e in group if e.values.get(key) is not None and e.score is not None)
  for entry in sorted(known, key=point):
    if not front or entry.gain > front[-1].gain or point(entry) == point(front[-1]):
      front.append(entry)
  return front
