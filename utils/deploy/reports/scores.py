"""How the score of a task is named, written and judged, whatever it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from secateurs.utils.deploy.reports import units
from secateurs.utils.hits import disagreements

STANDARD_ERRORS = 2
"""A difference is real if it exceeds this many standard errors of the difference."""


@dataclass(frozen=True)
class ScoreKind:
  """What a score is, without its value.

  Attributes:
    name: for programs, e.g. 'accuracy' or 'mean_iou'.
    label: for people, e.g. 'mean iou'; two kinds that differ in nothing else are equal.
    higher_is_better: False for errors.
    percent: whether values are fractions of 1 that are written in percent.
  """

  name: str
  label: str = field(compare=False)
  higher_is_better: bool
  percent: bool

  @property
  def factor(self) -> int:
    """What a value is multiplied by before it is shown or drawn."""
    return 100 if self.percent else 1

  @property
  def axis(self) -> str:
    """The label with its unit and, for errors, the direction: 'accuracy, %'."""
    unit = ', %' if self.percent else ''
    return self.label + unit + ('' if self.higher_is_better else ' (lower is better)')

  def show(self, value: float | None) -> str:
    """A value for people: '88.16 %' or '0.4213'."""
    return units.fmt_percent(value) if self.percent else units.fmt_metric(value)

  def show_difference(self, delta: float) -> str:
    """A difference for people: '-0.31 pt' or '-0.0123'."""
    return f'{100 * delta:+.2f} pt' if self.percent else f'{delta:+.4g}'

  def show_noise(self, noise: float) -> str:
    """A standard error for people: '0.32 pt' or '0.0123'."""
    return f'{100 * noise:.2f} pt' if self.percent else units.fmt_metric(noise)

  def gain(self, value: float) -> float:
    """The value with the sign that makes more of it better."""
    return value if self.higher_is_better else -value


def kind_of(score: Mapping) -> ScoreKind:
  """Returns what a `score` or one of the `figures` of a report is."""
  return ScoreKind(
    name=score['name'],
    label=score.get('label') or score['name'].replace('_', ' '),
    higher_is_better=score['higher_is_better'],
    percent=score['unit'] == 'percent',
  )


def value_of(score: Mapping | None) -> float | None:
  """The value of a score, None if there is none."""
  return score.get('value') if score else None


def noise_of_difference(before: Mapping, after: Mapping) -> float | None:
  """Standard error of the difference of two scores, None if that of one is unknown.

  Where it is known which samples each has right, the n samples are paired: only the first has b of them
  right, only the second c. The standard error is sqrt(b + c - (b - c)^2 / n) / n, with half a sample
  added to b, c and both other cells (Agresti & Min, Statistics in Medicine 24, 2005). Else the scores
  count as independent, and the verdict errs on the side of 'within the noise'.
  """
  apart = disagreements(before.get('hits'), after.get('hits'))
  if apart is not None:
    b, c, n = apart[0] + 0.5, apart[1] + 0.5, before['hits']['samples'] + 2
    return math.sqrt(b + c - (b - c) ** 2 / n) / n
  parts = (before.get('noise'), after.get('noise'))
  return None if None in parts else math.hypot(*parts)


def is_better(before: Mapping, after: Mapping) -> bool | None:
  """Whether the second score is better; None within the noise, and if the noise is unknown."""
  noise = noise_of_difference(before, after)
  delta = after['value'] - before['value']
  if noise is None or abs(delta) <= STANDARD_ERRORS * noise:
    return None
  return kind_of(after).gain(delta) > 0
