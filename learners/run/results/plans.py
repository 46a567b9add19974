"""plan.json: what a run cut, as a file that makes the same cut again.

A plan holds the channels that each layer kept and the number of weights that each kernel kept, with
the structure of the network that they belong to. Applied to the same architecture, with whatever
weights, it makes the same cut without choosing again: `--plan FILE`, or `apply_plan` in Python.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pydantic
import tf_keras as keras

from secateurs.learners.run.settings import Settings
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.files import atomic_path
from secateurs.utils.training.engine.patterns import Pattern, pattern_of
from secateurs.utils.training.models.weights import leaf_layers

SCHEMA = 1
OUTPUT, INPUT = 'output', 'input'


@dataclasses.dataclass(frozen=True)
class LayerShape:
  """A layer of the network before the cut.

  Attributes:
    name: of the layer.
    type: its class.
    weights: shapes of its weights.
  """

  name: str
  type: str
  weights: list[list[int]]

  def __str__(self) -> str:
    return f'{self.type} {self.name} {self.weights}'


@dataclasses.dataclass(frozen=True)
class ChannelCut:
  """Channels that stay.

  Attributes:
    layer: the layer that makes the channels, or that reads them and chose its own.
    side: `output` for a channel group, named by the first layer that makes its channels (and, after a
      point, by the part of it that has them inside); `input` for one layer's choice among the channels
      that it reads; `heads`, `key`, `value`, `cell0`, ... for channels inside of the layer.
    size: channels before.
    kept: those that stay, counted from zero; none where a residual branch goes as a whole.
  """

  layer: str
  side: str
  size: int
  kept: list[int]


@dataclasses.dataclass(frozen=True)
class ZeroCut:
  """Weights of a kernel that stay.

  Attributes:
    size: weights of the kernel.
    kept: how many are not pruned.
  """

  size: int
  kept: int


@dataclasses.dataclass(frozen=True)
class CutStep:
  """A further cut of what a plan leaves.

  Attributes:
    blocks: additions whose residual branches go first.
    channels: what stays of the channels of the network without them.
  """

  blocks: list[str] = dataclasses.field(default_factory=list)
  channels: list[ChannelCut] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class CutPlan:
  """What was cut from a network.

  Attributes:
    learner: that chose.
    method: name of the published method, if one was asked for.
    net: name of the network.
    layers: its structure before the cut.
    channels: what stays of channel groups and of layers' inputs; others stay whole.
    zeros: what stays of kernels, by name; others stay dense.
    pattern: where the zeros lie, as `Pattern.name` has it.
    blocks: additions whose residual branches go before any channels.
    steps: further cuts, one after the other, each on what is left; zeros come last.
    bits: of kernels whose weights share values, by name.
    file: kind of file that the cut was chosen for: float, int8 or packed; None where any.
    norms: whether channels could go that normalisations run over, as `ChannelGraph` has it.
    heads: what could go inside an attention, likewise.
    schema: version of the file's form.
  """

  learner: str
  method: str | None
  net: str
  layers: list[LayerShape]
  channels: list[ChannelCut] = dataclasses.field(default_factory=list)
  zeros: dict[str, ZeroCut] = dataclasses.field(default_factory=dict)
  pattern: str = 'unstructured'
  blocks: list[str] = dataclasses.field(default_factory=list)
  steps: list[CutStep] = dataclasses.field(default_factory=list)
  bits: dict[str, int] = dataclasses.field(default_factory=dict)
  file: str | None = None
  norms: Literal['keep', 'cut'] = 'keep'
  heads: Literal['width', 'whole'] = 'width'
  schema: int = SCHEMA

  def all_steps(self) -> list[CutStep]:
    """Blocks and channels in the order in which they go."""
    return [CutStep(self.blocks, self.channels), *self.steps]

  def where_zeros_lie(self) -> Pattern:
    """The pattern of the zeros."""
    return pattern_of(self.pattern)


def structure(model: keras.Model) -> list[LayerShape]:
  """The layers of a network that hold weights, in order."""
  return [
    LayerShape(layer.name, type(layer).__name__, [list(w.shape) for w in layer.weights])
    for layer in leaf_layers(model)
    if layer.weights
  ]


def empty(settings: Settings) -> CutPlan:
  """The plan of a run that cuts nothing."""
  model = settings.helper.build_model(settings.run.seed)
  return CutPlan(settings.learner, settings.method, settings.helper.net, structure(model))


def write_plan(plan: CutPlan, path: Path) -> None:
  """Writes plan.json."""
  text = json.dumps(dataclasses.asdict(plan), indent=1)
  with atomic_path(path) as partial:
    partial.write_text(text + '\n', encoding='utf-8')


def read_plan(path: str | os.PathLike) -> CutPlan:
  """Reads plan.json.

  Raises:
    UserError: it is missing, damaged or no plan.
  """
  path = Path(path).expanduser()
  remedy = 'give the plan.json that a run of this program wrote beside its report'
  try:
    values = json.loads(path.read_text(encoding='utf-8'))
    plan = pydantic.TypeAdapter(CutPlan).validate_python(values)
  except pydantic.ValidationError as error:
    first = error.errors()[0]
    where = '.'.join(map(str, first['loc'])) or 'the whole'
    raise UserError(f'{path} is no plan of a cut ({where}: {first["msg"]}): {remedy}.') from error
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{path} cannot be read as a plan ({first_line(error)}): {remedy}.') from error
  if plan.schema != SCHEMA:
    raise UserError(
      f'{path} is a plan of schema {plan.schema}, but {SCHEMA} was expected: {remedy}.'
    )
  for cut in (cut for step in plan.all_steps() for cut in step.channels):
    if len(set(cut.kept)) != len(cut.kept) or not _within(cut):
      raise UserError(
        f'{path} keeps channels {_shown(cut.kept)} of {cut.size} of layer {cut.layer}, but different '
        f'numbers from 0 to {cut.size - 1} were expected: {remedy}.'
      )
  return plan


def require_same_network(plan: CutPlan, model: keras.Model, source: str) -> None:
  """Checks that a plan belongs to a network's architecture.

  Args:
    plan: what to cut.
    model: the network.
    source: the plan's file, for the message.

  Raises:
    UserError: it belongs to another; the first difference is named.
  """
  found = structure(model)
  for wanted, layer in zip(plan.layers, found):
    if wanted != layer:
      difference = f'has {wanted} where this network has {layer}'
      break
  else:
    if len(plan.layers) == len(found):
      return
    difference = f'has {len(plan.layers)} layers with weights where this network has {len(found)}'
  raise UserError(
    f'{source} is the plan of another network: {plan.net} {difference}; give the plan of the same '
    'architecture.'
  )


def require_channels_alone(plan: CutPlan, source: str, learner: str) -> None:
  """Checks that a plan can be applied by a learner that cuts channels, or zeros, in one step.

  Raises:
    UserError: blocks go as well, or channels in several steps.
  """
  if plan.blocks or plan.steps or plan.bits:
    what = 'residual blocks' if any(step.blocks for step in plan.all_steps()) else 'several steps'
    what = 'few bits' if plan.bits else what
    raise UserError(
      f'{source} is a plan with {what}, which {learner} does not apply: give --learner joint-search, '
      'or apply_plan in Python.'
    )


def merged(steps: Sequence[CutStep]) -> list[CutStep]:
  """The same cuts in as few steps: a step without blocks joins the one before it."""
  found: list[CutStep] = []
  for step in steps:
    if not found or step.blocks:
      found.append(step)
      continue
    cuts = {(cut.layer, cut.side): cut for cut in found[-1].channels}
    for cut in step.channels:
      before = cuts.get((cut.layer, cut.side))
      if before is not None:
        kept = [before.kept[place] for place in cut.kept]
        cut = dataclasses.replace(cut, size=before.size, kept=kept)
      cuts[cut.layer, cut.side] = cut
    found[-1] = dataclasses.replace(found[-1], channels=list(cuts.values()))
  return found


def _within(cut: ChannelCut) -> bool:
  return all(0 <= one < cut.size for one in cut.kept)


def _shown(kept: list[int]) -> str:
  return ', '.join(map(str, kept[:6])) + (', ...' if len(kept) > 6 else '') or 'none'
