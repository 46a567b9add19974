"""What units of channels cost when they are pruned alone and the layers that read them are refit."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.run.console import say
from secateurs.learners.run.training.divergence import Curve, Part, describe, losses_at
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import flatten_model

_SHARES = (7 / 8, 3 / 4, 0.6, 0.45, 0.3, 0.15)


def numbers_kept(size: int) -> list[int]:
  """The numbers of channels, falling to one, at which a unit of `size` is measured."""
  found = {1, *(round(share * size) for share in _SHARES)}
  return sorted((number for number in found if 0 < number < size), reverse=True)


def unit_parts(working: keras.Model, units: Sequence[Unit], refits: LayerRefits) -> list[Part]:
  """The units as parts of a scan of `working`, which has the original's weights."""
  flat = flatten_model(working)
  layers, first = flat.layers(), first_calls(flat)
  return [
    Part(
      unit.name,
      min(first[name] for name in unit.readers),
      [
        (1 - kept / unit.size, functools.partial(refits.apply, layers, {unit.name: kept}))
        for kept in numbers_kept(unit.size)
      ],
      functools.partial(refits.apply, layers, {}),
    )
    for unit in units
  ]


def say_curve(number: int, total: int, name: str, curve: Curve) -> None:
  """A line for the terminal on each unit that has been measured."""
  say(f'scan  {number}/{total}  {name}: divergence with so many channels gone  {describe(curve)}')


def losses_of(curves: Mapping[str, Curve], units: Sequence[Unit]) -> dict[str, np.ndarray]:
  """Each unit's loss after so many channels have gone, [size + 1]."""
  return {
    unit.name: losses_at(curves[unit.name], np.arange(unit.size + 1) / unit.size) for unit in units
  }
