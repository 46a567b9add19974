"""Repairs an integer file, one step after the other, until it has lost little enough.

The steps, in this order: cross-layer equalisation (`equalise`), bias correction (`bias`, in `refit`),
narrower ranges (`percentile`, `mse`), adaptive rounding (`rounding`), and the layers that cost most in
16-bit activations (`int16`) or in float (`float`). With `auto` a step stays only if the outputs then
lie nearer to the float network's, and no further one is tried once the score holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from secateurs.utils import nested
from secateurs.utils.deploy.int8.equalise import BYS, equalised
from secateurs.utils.deploy.int8.layer_errors import (
  Divergence,
  Errors,
  LayerError,
  Watch,
  errors_alone,
  layer_errors,
  mean,
  relative_error,
)
from secateurs.utils.deploy.int8.ranges import clipped_ranges
from secateurs.utils.deploy.int8.recipes import FLOAT, quantized
from secateurs.utils.deploy.int8.refit import refitted
from secateurs.utils.deploy.int8.repair_steps import Step, holds, rows_of, sentence_of
from secateurs.utils.deploy.int8.running import Runner
from secateurs.utils.deploy.int8.steps import AUTO, HOWS, STEPS
from secateurs.utils.deploy.lowbits.ranges import activation_ranges
from secateurs.utils.errors import UserError, first_line

_EQUAL = 1e-6  # Relative squared error of the outputs that float rounding may leave.
_NB_JUDGED = 64

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class _State:
  """What an integer file is made of."""

  content: bytes
  ranges: dict[str, Any]
  bias: bool = False
  rounding: bool = False
  bits: dict[str, int] = dataclasses.field(default_factory=dict)


class Repairer:
  """Repairs integer files of one network.

  Attributes:
    wanted: names of `STEPS`, or only `AUTO`.
    steps: what was done, once it was.
  """

  def __init__(
    self,
    wanted: Sequence[str],
    drop: Callable[[bytes, bytes], float],
    max_drop: float,
    layers: Sequence[str] = (),
    divergence: Divergence | None = None,
    say: Say = lambda text: None,
    watch: Watch = lambda items, total, work: items,
  ) -> None:
    """Keeps what it is given.

    Args:
      wanted: see above.
      drop: how much worse a file (its second argument) scores than another, negative if better.
      max_drop: how much may be lost.
      layers: names of the network's layers in order, for names.
      divergence: of the task; default: `relative_error`.
      say: prints.
      watch: shows how far the measuring of layers is.
    """
    self.wanted = list(wanted)
    self._score_drop, self._max_drop, self._layers = drop, max_drop, layers
    self._divergence, self._say = divergence or relative_error, say
    self._watch, self._plain = watch, None
    self._known: tuple[_State, list[LayerError]] | None = None
    self.steps: list[Step] = []

  def __call__(self, content: bytes, plain: bytes, images: Any) -> bytes:
    """The repaired file, or the plain one where nothing helps.

    Args:
      content: of the float file.
      plain: content of the integer file as it was made of it.
      images: inputs [n, ...] for ranges and fits.

    Raises:
      UserError: ai-edge-quantizer is not installed or refuses the network.
    """
    self._content, self._images = content, images
    self._judged = nested.rows(images, slice(_NB_JUDGED))
    self._wanted_outputs = Runner(content, self._judged).outputs()
    self._best, self._best_apart = plain, self._apart(plain)
    self._note('plain', True, self._best_apart, self._drop(plain), '')
    self._state = self._plain = _State(content, activation_ranges(content, images))
    for name in STEPS:
      if self._is_done() and AUTO in self.wanted:
        break
      if name in self.wanted or AUTO in self.wanted:
        self._try(name)
    self._say(self.sentence())
    return self._best

  def _is_done(self) -> bool:
    return holds(next(one.drop for one in reversed(self.steps) if one.kept), self._max_drop)

  def _try(self, name: str) -> None:
    if name in ('int16', 'float'):
      self._try_bits(name, 16 if name == 'int16' else FLOAT)
      return
    candidates = []
    for state, detail in self._changed(name):
      try:
        made = self._build(state)
        candidates.append((self._apart(made), made, state, detail))
      except (UserError, RuntimeError, ValueError) as error:
        self._note(name, False, float('nan'), None, first_line(error))
    if not candidates:
      return
    apart, made, state, detail = min(candidates, key=lambda one: one[0])
    better = apart < self._best_apart or AUTO not in self.wanted
    self._note(name, better, apart, self._drop(made) if better else None, detail)
    if better:
      self._best, self._best_apart, self._state = made, apart, state

  def _changed(self, name: str) -> list[tuple[_State, str]]:
    """The states that a step may lead to, each with a few words."""
    state = self._state
    if name == 'equalise':
      return [one for by in BYS for one in self._equalised(by)]
    if name in HOWS:
      ranges = activation_ranges(state.content, self._images)
      ranges = clipped_ranges(state.content, ranges, self._images, name)
      return [(dataclasses.replace(state, ranges=ranges), '')]
    return [(dataclasses.replace(state, **{name: True}), '')]

  def _equalised(self, by: str) -> list[tuple[_State, str]]:
    found = equalised(self._state.content, self._images, by)
    apart = mean(
      relative_error(self._wanted_outputs, Runner(found.content, self._judged).outputs())
    )
    if not found.nb_channels or not apart <= _EQUAL:
      return []
    detail = f'{found.nb_channels} channels, by their {by}'
    if found.nb_relu6:
      detail += f'; {found.nb_relu6} ReLU6 that no image reaches 6 of became ReLU'
    ranges = activation_ranges(found.content, self._images)
    return [(dataclasses.replace(self._state, content=found.content, ranges=ranges), detail)]

  def _try_bits(self, name: str, bits: int) -> None:
    """More and more of the layers that cost most: 1, 2, 4, ... up to all."""
    state = self._state
    errors = self._alone(state)
    count = 1
    while errors and count < 2 * len(errors):
      chosen = errors[:count]
      others = {one.scope: bits for one in chosen}
      changed = dataclasses.replace(state, bits={**state.bits, **others})
      detail = ', '.join(one.layer for one in chosen[:8]) + (', ...' if count > 8 else '')
      try:
        made = self._build(changed)
        apart = self._apart(made)
      except (UserError, RuntimeError, ValueError) as error:
        self._note(name, False, float('nan'), None, first_line(error))
        return
      drop = self._drop(made)
      enough = holds(drop, self._max_drop)
      kept = apart < self._best_apart or (enough and not self._is_done())
      self._note(name, kept, apart, drop, f'{len(chosen)} layers: {detail}')
      if kept:
        self._best, self._best_apart, self._state = made, apart, changed
      if enough:
        return
      count *= 2

  def _build(self, state: _State) -> bytes:
    made = quantized(state.content, state.ranges, state.bits)
    if state.bias or state.rounding:
      made = refitted(state.content, made, self._images, rounding=state.rounding, bias=state.bias)
    return made

  def _apart(self, made: bytes) -> float:
    return mean(self._divergence(self._wanted_outputs, Runner(made, self._judged).outputs()))

  def _drop(self, made: bytes) -> float:
    return float(self._score_drop(self._content, made))

  def _note(
    self, step: str, kept: bool, divergence: float, drop: float | None, detail: str
  ) -> None:
    self.steps.append(Step(step, kept, divergence, drop, detail))
    shown = '' if drop is None else f', the score drops by {drop:.4g}'
    extra = f' ({detail})' if detail else ''
    verb = '' if step == 'plain' else ', kept' if kept else ', not kept'
    self._say(f'int8 {step}: divergence {divergence:.3g}{shown}{verb}{extra}')

  def block(self) -> list[dict[str, Any]]:
    """The steps in plain types; what was not measured is None."""
    return rows_of(self.steps)

  def sentence(self) -> str:
    """What was done, for the reader of a report."""
    return sentence_of(self.steps, self._max_drop)

  def layer_errors(self) -> Errors | None:
    """What each layer of the file costs in 8 bits without repair; None before there was a file.

    Raises:
      UserError: ai-edge-quantizer refuses the network.
    """
    if self._plain is None:
      return None
    state = self._plain
    return layer_errors(
      state.content,
      state.ranges,
      self._images,
      self._layers,
      self._divergence,
      self._watch,
      known=self._alone(state),
    )

  def _alone(self, state: _State) -> list[LayerError]:
    """Errors of the layers, the worst first, measured once for the same file and ranges."""
    known = self._known
    if known is None or known[0].content != state.content or known[0].ranges is not state.ranges:
      arguments = self._images, self._layers, self._divergence, self._watch
      self._known = state, errors_alone(state.content, state.ranges, *arguments)
    return self._known[1]
