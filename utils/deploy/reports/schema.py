"""What `report.json` holds: schema 2, field by field, and its check.

A number that was not measured is null. Fractions and ratios are in [0, 1] unless a comment says
otherwise. Reports of schema 1 are converted by `upgrade_report`.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import NotRequired, Required, TypedDict

from secateurs.utils.hits import unpacked

SCHEMA = 2


def _json(value: object) -> object:
  try:
    json.dumps(value, allow_nan=False)
  except TypeError as error:
    raise ValueError(str(error)) from error
  return value


Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Number = Finite | None
Whole = Annotated[int, Field(strict=True)]
Numbers = dict[str, Number]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]  # before, after
Free = dict[str, Annotated[Any, AfterValidator(_json)]]  # any JSON values


@with_config(ConfigDict(extra='forbid'))
class _Closed(TypedDict):
  pass


class Hits(_Closed):
  """Which samples one process found right, in the order of the data: one bit each, in base64."""

  samples: Whole
  bits: str  # eight to a byte, the first sample in the highest


def _enough(hits: Hits) -> Hits:
  unpacked(hits)
  return hits


class Score(_Closed):
  """A figure of the task: its score, or a further one."""

  name: str  # 'accuracy', 'mean_iou', 'mae', ...
  value: Number  # over every evaluation sample once; a fraction of 1 if unit is 'percent'
  higher_is_better: bool
  unit: Literal['percent', 'number']  # how people read it: 0.88 as '88.00 %' or as '0.88'
  noise: NotRequired[Annotated[Finite, Field(ge=0)] | None]  # standard error of value
  label: NotRequired[str]  # for people; default: the name with spaces
  hits: NotRequired[Annotated[Hits, AfterValidator(_enough)]]  # where value is their share


class Latency(_Closed):
  """Time of one image with one number of threads."""

  threads: Whole
  p50_ms: Number  # median
  p90_ms: Number
  fps: Number  # images per second at the median
  frames: NotRequired[Whole]  # timed
  spread: NotRequired[Number]  # width of the median's 95 % interval, as a fraction of the median
  settled: NotRequired[bool]  # whether that is at most 3 %
  cores: NotRequired[Whole]  # that the threads were held on


class Throughput(_Closed):
  """Frames per second of several interpreters at the same time."""

  streams: Whole  # interpreters of one thread each
  fps: Number  # of all together, the median of some turns
  frames: Whole
  spread: Number  # width of the median's 95 % interval, as a fraction of the median
  cores: NotRequired[Whole]  # that they were held on


class Evaluated(_Closed, total=False):
  """What a model or a file gives on the evaluation samples, and its time."""

  score: Score | None
  figures: list[Score]  # further figures of the task
  accuracy: Number  # of classification only, for programs that read it: the score once more
  accuracy_top5: Number
  loss: Number
  metrics: Numbers  # the user's, by name
  latency: list[Latency] | None
  throughput: NotRequired[list[Throughput]]


class Npu(_Closed):
  """What Vela estimates for one inference of the full-integer file on an NPU."""

  device: str  # such as ethos-u55-128
  cycles: Whole
  npu_cycles: Whole
  ms: Number
  sram_bytes: Whole
  flash_bytes: Whole
  npu_operators: Whole
  cpu_operators: Whole
  on_cpu: list[str]


class Int8(Evaluated, total=False):
  """The full-integer .tflite file."""

  post_training_score: Number  # without the quantisation-aware training that the file comes from
  divergence: Number | None  # mean of its outputs from the float file's, on evaluation samples
  bytes: Number
  gzip_bytes: Number
  ram_bytes: Number  # peak memory of the activations, by the planner
  arena_bytes: Number  # that tflite-micro takes
  npu: Npu | None  # with --bench_device


class Sparse(_Closed, total=False):
  """The float .tflite file whose kernels skip their zeros."""

  bytes: Number
  gzip_bytes: Number
  latency: list[Latency] | None
  throughput: NotRequired[list[Throughput]]


class Quant(Evaluated, total=False):
  """The .tflite file whose weights have few bits."""

  bytes: Number
  gzip_bytes: Number


class Packed(_Closed, total=False):
  """The .dc file: codebooks, gaps and Huffman codes."""

  bytes: Number
  gzip_bytes: Number


class Block(Evaluated, total=False):
  """One model: `original`, `pruned` or `compressed`."""

  score_bn_reestimated: Number  # after BatchNorm statistics were re-estimated, weights unchanged
  params: Number
  macs: Number  # multiply-adds of the convolutions and dense layers for one sample
  sparsity: Number  # zeros in the prunable kernels
  sparsity_params: Number  # zeros in all parameters
  tflite_bytes: Number  # of the float file
  tflite_gzip_bytes: Number
  ram_bytes: Number  # peak memory of the float file's activations, by the planner
  ram_operator: str  # kind and name of the operator that holds it
  int8: Int8 | None
  sparse: Sparse | None
  quant: Quant | None
  packed: Packed | None
  operators: dict[str, Whole]  # of the float file, by kind
  delegate_partitions: Whole | None  # pieces of it that delegates run
  left_out: dict[str, str]  # formats that could not be exported, and why
  file_notes: list[str]  # what else is to be known of the exported files
  deployed: Literal['int8']  # the file that was searched for, where it is not the float one


class Achieved(_Closed, total=False):
  """What was reached of the request; ratios are compressed / original."""

  prune_ratio: Number  # removed part of the MACs if channels were removed, else the sparsity
  channels_ratio: Number
  macs_ratio: Number
  params_ratio: Number
  latency_ratio: Number
  sparsity: Number
  sparsity_params: Number
  max_drop: Number  # of the score on the evaluation set, in its unit
  max_drop_held_out: (
    Number  # what the drop on held-out samples does not exceed with 95 % confidence
  )
  max_bytes: Number  # of the file that was searched for
  max_latency: Number  # of it, ms
  max_macs: Number
  max_ram: Number  # bytes of its activations at the peak
  ram_ratio: Number  # the same as a ratio
  time: Number  # of search and training, seconds


class Layer(_Closed):
  """One layer of the original, before and after; zeros after if it is gone."""

  name: str
  type: str  # class of the layer
  in_channels: Pair
  out_channels: Pair
  macs: Pair
  params: Pair
  sparsity: NotRequired[Number]  # zeros in its kernels


class Phase(_Closed):
  """One phase of the run."""

  name: str
  title: NotRequired[str]  # what it does, in a few words
  iters: Number  # training steps
  seconds: Number
  peak_mb: NotRequired[Number]  # the most memory of the process meanwhile, in megabytes
  images_trained: NotRequired[Whole]  # images of training steps, of candidates too
  images_scored: NotRequired[Whole]  # images run forward to judge, rank or refit


class ParityFigures(_Closed, total=False):
  """How far outputs lie apart: as a fraction of their range, unless the name says otherwise."""

  slim_vs_masked: Number
  gated_vs_masked: Number
  tflite_vs_keras: Number
  pb_vs_keras: Number
  reloaded_vs_keras: Number
  int8_top1_agreement: Number  # fraction of samples with the same largest class
  quant_top1_agreement: Number  # of the file whose weights have few bits
  int8_max_diff_steps: Number  # largest difference in integer output steps


class Format(_Closed):
  """One exported file of the compressed model."""

  format: str
  file: str
  bytes: Number
  gzip_bytes: Number
  score: Number  # value of the task's score; null where the file was not evaluated
  ms: Number  # median of one sample with the fewest threads
  settled: NotRequired[bool | None]  # whether the median is known well


class Int8Layer(_Closed):
  """One layer of the compressed model in 8 bits, quantised after training."""

  layer: str
  operator: str  # kind in the .tflite file
  tensor: str  # name of its output in the float file
  snr_db: Number  # signal-to-noise ratio of its output with it alone in 8 bits
  alone: Number  # divergence of the outputs with it alone in 8 bits
  rest: Number  # the same with all layers but this one in 8 bits


class Int8Layers(_Closed):
  """What each layer costs in 8 bits; the layers that cost most alone first."""

  layers: list[Int8Layer]
  all: Number  # divergence with all layers in 8 bits
  nb_images: Whole


class Int8Step(_Closed):
  """One step of repairing the int8 file."""

  step: str  # plain: the file before
  kept: bool
  divergence: Number  # of the outputs from the float network's
  drop: Number  # of the score, from the float file's, on samples of no test; negative if better
  detail: str


class Link(_Closed, total=False):
  """One learner of a chain, in the order in which they ran; fields as in the report."""

  learner: Required[str]
  method: str | None
  original: Block | None
  pruned: Block | None
  compressed: Block | None
  requested: Free
  achieved: Achieved
  layers: list[Layer]
  phases: list[Phase]
  parity: ParityFigures
  flags: Free
  seconds_total: Number  # of this link alone
  changes: Free
  extra: Free


class Report(_Closed):
  """The whole file, in the order in which it is written."""

  schema: Literal[2]
  learner: str
  method: str | None  # the published method that the user named
  task: str  # 'classification', 'regression', ...
  net: str
  dataset: str
  seed: Whole
  nb_workers: Whole
  nb_smpls_eval: Whole | None  # evaluation samples; null in an old report that does not say
  notes: NotRequired[list[str]]  # sentences that the reader must not miss
  original: Block
  pruned: NotRequired[Block | None]  # before the last fine-tuning
  compressed: Block
  changes: NotRequired[Free]  # row of the table -> compressed / original, or the difference
  files: NotRequired[dict[str, str]]  # exported files by format, relative to the report's folder
  links: NotRequired[list[Link]]  # the learners of a chain, this run's last
  requested: Free  # figures of `achieved` that the flags asked for
  achieved: Achieved
  parity: ParityFigures
  layers: list[Layer]
  formats: NotRequired[list[Format] | None]  # all exported files
  int8_layers: NotRequired[Int8Layers | None]  # with --export_int8, where it could be measured
  int8_repair: NotRequired[list[Int8Step] | None]  # what was done to the int8 file
  phases: list[Phase]
  images_per_sec: Number  # of the fastest training phase
  seconds_total: Number  # of this run; of a chain, `links` has those of the others
  flags: Free
  versions: Free
  extra: NotRequired[Free]  # figures of the learner


KEY_ORDER = tuple(Report.__annotations__)


@cache
def _adapter() -> TypeAdapter:
  return TypeAdapter(Report)


def validate_report(report: Mapping) -> None:
  """Checks a report against schema 2.

  Raises:
    ValueError: a key is missing or unknown, or a value has the wrong form; the key is named by its
      path, e.g. 'compressed.latency[0].p50_ms'.
  """
  try:
    _adapter().validate_python(report)
  except ValidationError as error:
    found = error.errors(include_url=False)
    more = f' (and {len(found) - 1} more)' if len(found) > 1 else ''
    raise ValueError(f'report: {_sentence(found[0])}{more}') from error


def _sentence(found: Mapping) -> str:
  parts = (f'[{part}]' if isinstance(part, int) else f'.{part}' for part in found['loc'])
  path = ''.join(parts).removeprefix('.').replace('.[key]', ' (as a key)') or 'the report'
  if found['type'] == 'missing':
    return f'{path} is missing'
  if found['type'] == 'extra_forbidden':
    return f'{path} is no key of schema {SCHEMA}'
  wrong = found['msg'].removeprefix('Value error, ').replace('Input should', 'must')
  return f'{path} {wrong}, got {found["input"]!r:.80} ({type(found["input"]).__name__})'
