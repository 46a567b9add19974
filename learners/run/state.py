"""What a run remembers between its phases, and its form in checkpoints.

`RunState` is the same for all learners; what an algorithm must remember is a separate dataclass, a
subclass of `LearnerState`. Both are turned into JSON and back here, and nowhere else.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pydantic

from secateurs.utils.errors import UserError
from secateurs.utils.training.models.checkpoints import Saved

FORMAT = 2


@dataclasses.dataclass
class LearnerState:
  """What a learner's algorithm must remember between phases: nothing, unless a subclass adds fields."""


@dataclasses.dataclass
class PhaseTime:
  """How long a phase, or a training inside one, has taken.

  Attributes:
    iters: training steps done.
    seconds: wall time, counted on where an earlier process stopped.
    images_per_sec: speed of its training; None if it was not measured.
    peak_mb: the most memory that the process held meanwhile, in megabytes; None inside a phase.
    images_trained: images of training steps in the phase and inside it, see `tally`.
    images_scored: images that were run forward to judge, rank or refit.
  """

  iters: int = 0
  seconds: float = 0.0
  images_per_sec: float | None = None
  peak_mb: float | None = None
  images_trained: int = 0
  images_scored: int = 0


@dataclasses.dataclass
class BatchNormState:
  """The outcome of re-estimating batch-norm statistics.

  Attributes:
    before: value of the score with the statistics of the training.
    after: with re-estimated ones.
    taken: whether these are in the network.
    nb_samples: training samples that they were estimated on, of all processes.
    nb_judged: samples that both were judged on.
    held_out: whether these were held out of the training.
  """

  before: float
  after: float
  taken: bool
  nb_samples: int
  nb_judged: int
  held_out: bool


@dataclasses.dataclass
class RunState:
  """Where a run stands.

  Attributes:
    identity: what must be the same for the run to be resumed, see `identity`.
    algorithm: what the learner remembers.
    done: names of the finished phases, in order.
    phase: the phase of the last checkpoint.
    step: training steps done in it.
    times: of phases and of trainings inside them, by name.
    pieces: in how many pieces the batches of a training are run, by phase, where it is several.
    original: report block of the network before compression.
    post_training_score: value of the score of the int8 file that quantising the float model gave,
      where training in 8 bits follows.
    quantized_with: flags that training in 8 bits began with; None where it has not begun.
    input_zeros: fraction of zeros in the kernels of the network that was given.
    batch_norms: what re-estimating batch-norm statistics gave, where there are any.
    report: the content of report.json except for the times, once the result was measured.
  """

  identity: dict[str, Any]
  algorithm: LearnerState
  done: list[str] = dataclasses.field(default_factory=list)
  phase: str | None = None
  step: int = 0
  times: dict[str, PhaseTime] = dataclasses.field(default_factory=dict)
  pieces: dict[str, int] = dataclasses.field(default_factory=dict)
  original: dict[str, Any] | None = None
  post_training_score: float | None = None
  quantized_with: dict[str, Any] | None = None
  input_zeros: float = 0.0
  batch_norms: BatchNormState | None = None
  report: dict[str, Any] | None = None


def to_json(state: RunState) -> dict[str, Any]:
  """The state in plain types, as `from_checkpoint` reads it."""
  return {'format': FORMAT, **dataclasses.asdict(state)}


def from_checkpoint(saved: Saved, kind: type[LearnerState]) -> RunState:
  """The state of a checkpoint.

  Args:
    saved: the checkpoint.
    kind: what the learner remembers.

  Raises:
    UserError: the state is of another format, or not of this learner.
  """
  values = dict(saved.state)
  found = values.pop('format', 1)
  if found != FORMAT:
    raise UserError(
      f'{saved.prefix} holds a run in format {found}, but this version reads format {FORMAT}: finish '
      'it with the version that began it, or start again with another --run_dir.'
    )
  try:
    algorithm = _parsed(kind, values.pop('algorithm', {}))
    return dataclasses.replace(_parsed(RunState, {**values, 'algorithm': {}}), algorithm=algorithm)
  except pydantic.ValidationError as error:
    first = error.errors()[0]
    where = '.'.join(map(str, first['loc'])) or 'the whole'
    raise UserError(
      f'{saved.prefix} holds no state of this learner ({where}: {first["msg"]}): delete it, or give '
      'another --run_dir.'
    ) from error


def _parsed(kind: type, values: object) -> Any:
  if isinstance(values, dict):
    known = {field.name for field in dataclasses.fields(kind)}
    for name in values:
      if name not in known:
        raise pydantic.ValidationError.from_exception_data(
          kind.__name__, [{'type': 'unexpected_keyword_argument', 'loc': (name,), 'input': name}]
        )
  return pydantic.TypeAdapter(kind).validate_python(values)
