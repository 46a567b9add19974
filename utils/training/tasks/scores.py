"""Scores: the numbers that judge a network, with their direction and their sampling noise."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from secateurs.utils.hits import Hits

_BY_NAME = ('accuracy', 'accuracy_top5')


@dataclasses.dataclass(frozen=True)
class Score:
  """A number that judges a network.

  Attributes:
    name: what it is, such as accuracy or mean_iou.
    value: the number; a share in [0, 1] where the unit is percent.
    higher_is_better: its direction.
    unit: `percent` or `number`.
    noise: standard error of the value that follows from the number of samples; None if not known.
    label: the name for people, such as mean IoU; None: the name with spaces.
    hits: which samples count as right, where the value is their share; None elsewhere.
  """

  name: str
  value: float
  higher_is_better: bool = True
  unit: str = 'percent'
  noise: float | None = None
  label: str | None = None
  hits: Hits | None = dataclasses.field(default=None, compare=False, repr=False)

  def __str__(self) -> str:
    name = self.label or self.name
    if self.unit == 'percent':
      return f'{name} {100 * self.value:.2f} %'
    return f'{name} {self.value:.4g}'

  @property
  def goodness(self) -> float:
    """The value, negated where lower is better: greater is better in any case."""
    return self.value if self.higher_is_better else -self.value

  def as_json(self) -> dict[str, Any]:
    """Plain types, as reports hold them."""
    found = dataclasses.asdict(self)
    for name in ('label', 'hits'):
      if found[name] is None:
        del found[name]
    return found


def binomial_noise(share: float, nb_samples: float) -> float | None:
  """Standard error of a fraction p of n samples: sqrt(p (1 - p) / n); None without samples."""
  return math.sqrt(max(share * (1 - share), 0.0) / nb_samples) if nb_samples else None


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Results over one split.

  Attributes:
    score: the number that judges.
    loss: mean loss from the targets.
    nb_samples: samples seen.
    figures: further numbers of the task, such as top-5 accuracy.
    metrics: means of the user's metrics by name.
  """

  score: Score
  loss: float
  nb_samples: int
  figures: tuple[Score, ...] = ()
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)

  def block(self) -> dict[str, Any]:
    """The evaluation as a block of a report holds it; accuracies are there by name, too."""
    named = {one.name: one.value for one in (self.score, *self.figures) if one.name in _BY_NAME}
    block: dict[str, Any] = {'score': self.score.as_json(), **named, 'loss': self.loss}
    if self.figures:
      block['figures'] = [figure.as_json() for figure in self.figures]
    if self.metrics:
      block['metrics'] = dict(self.metrics)
    return block
