"""What joint-search remembers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from secateurs.learners.run.state import LearnerState


@dataclasses.dataclass
class Taken:
  """What one try took from one part.

  Attributes:
    part: its name.
    kind: channels, block, zeros or bits.
    before: channels, 1, nonzeros or bits.
    after: the same afterwards; 0 for a block that has gone.
    loss: the divergence that the part alone was measured to cost.
  """

  part: str
  kind: str
  before: int
  after: int
  loss: float


def cuts_of(taken: Sequence[Taken]) -> set[tuple[str, str, int]]:
  """What goes, whatever it was measured to cost."""
  return {(one.kind, one.part, one.after) for one in taken}


@dataclasses.dataclass
class Try:
  """A network that was tried.

  Attributes:
    number: counts up from one.
    base: the try whose network it was made from; 0 for the original.
    target: cost that it was made for.
    cost: of its file, in the unit of the cost.
    predicted: sum of the losses of what was taken, as they were weighed.
    score: value of the score on the held-out samples.
    drop: of the score, in its unit, from the reference's.
    most: what the drop does not exceed with 95 % confidence.
    accepted: whether the search continues from it.
    longer: whether it was trained once more, because it was near.
    as_cut: whether its training ruined it and was undone.
    seconds: that it took.
    bits: by kernel name, where weights share values.
    taken: what went since its base.
    channels: channels that stayed of what was cut, as plan.json has it.
  """

  number: int
  base: int
  target: float
  cost: float = 0.0
  predicted: float = 0.0
  score: float = 0.0
  drop: float = 0.0
  most: float = 0.0
  accepted: bool = False
  longer: bool = False
  as_cut: bool = False
  seconds: float = 0.0
  bits: dict[str, int] = dataclasses.field(default_factory=dict)
  taken: list[Taken] = dataclasses.field(default_factory=list)
  channels: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class JsState(LearnerState):
  """What `joint-search` remembers.

  Attributes:
    file: kind of file that is searched for: float, int8 or packed.
    cost: of the original in its float file, in the unit of the cost.
    original_ms: latency of the original's float file, where latencies count.
    start: of the original in that kind of file.
    reference: scores of the reference by part of the held-out samples, higher is better.
    reference_value: the score of it on all of them.
    reference_is: what it is: the original, or the original after the training of a try.
    referred: whether the original was trained as a try is, to find out which of the two it is.
    nb_judged: held-out samples.
    percent: whether the score is a fraction that is read in percent.
    ms_by_part: for latency, milliseconds that each part is worth.
    try_steps: training steps of a try.
    final_steps: training steps at the end.
    step: fraction of the cost that the next try may have.
    base: the try that the next one is made from; 0 for the original.
    tries: all that are done.
    candidate: the try that is being trained.
    seconds: that survey and tries took.
    ended: why the search ended.
    chosen: the try whose network is trained to the end; None before.
    final: score, drop and most of the result on the held-out samples, and for an int8 file the drop of
      the same network as a float file.
  """

  file: str = ''
  cost: float = 0.0
  original_ms: float = 0.0
  start: float = 0.0
  reference: list[float] = dataclasses.field(default_factory=list)
  reference_value: float = 0.0
  reference_is: str = ''
  referred: bool = False
  nb_judged: int = 0
  percent: bool = True
  ms_by_part: dict[str, float] = dataclasses.field(default_factory=dict)
  try_steps: int = 0
  final_steps: int = 0
  step: float = 0.0
  base: int = 0
  tries: list[Try] = dataclasses.field(default_factory=list)
  candidate: Try | None = None
  seconds: float = 0.0
  ended: str = ''
  chosen: int | None = None
  final: dict[str, Any] | None = None
