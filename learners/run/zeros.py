"""Zeros that a network comes with: kept by default, or what became of them is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.run.given import given_weights
from secateurs.learners.run.settings import Settings
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.models.weights import layer_kernels, named_weights

_FEW = 0.001  # Fewer zeros than this are accidents of a dense network.


def zero_fraction(model: keras.Model) -> float:
  """Fraction of exact zeros in the trainable kernels; 0 where they are so few that none was meant."""
  values = [kernel.numpy() for _, kernel in layer_kernels(model)]
  size = sum(value.size for value in values)
  zeros = sum(int(np.sum(value == 0)) for value in values)
  return zeros / size if size and zeros / size >= _FEW else 0.0


def nonzeros(settings: Settings, model: keras.Model) -> dict[Any, np.ndarray]:
  """Where the kernels of a network may differ from zero, by `ref()`, for those with some zeros.

  They are read from the weights that the user gave, so that a resumed run finds them again.

  Args:
    settings: with the weights, and whether their zeros stay.
    model: the network that the weights are for.
  """
  given = given_weights(settings) if settings.training.keep_zeros else None
  if given is None:
    return {}
  names = {weight.ref(): name for name, weight in named_weights(model).items()}
  kernels = [kernel for _, kernel in layer_kernels(model)]
  values = {kernel.ref(): given[0].get(names[kernel.ref()]) for kernel in kernels}
  found = {ref: value != 0 for ref, value in values.items() if value is not None}
  size, zeros = (sum(f(mask) for mask in found.values()) for f in (np.size, lambda m: np.sum(~m)))
  if not size or zeros / size < _FEW:
    return {}
  return {ref: mask for ref, mask in found.items() if mask.any() and not mask.all()}


def given_masks(settings: Settings, model: keras.Model) -> Masks | None:
  """Masks that keep the zeros of the weights that the user gave; None where there are none."""
  stays = nonzeros(settings, model)
  kernels = [kernel for _, kernel in layer_kernels(model) if kernel.ref() in stays]
  arrays = [stays[kernel.ref()].astype(np.float32) for kernel in kernels]
  return Masks(kernels, arrays) if kernels else None


def note(before: float, model: keras.Model, settings: Settings) -> str:
  """A sentence on what became of the zeros that a network came with."""
  text = f'{100 * before:.1f} % of the weights in the kernels of the given network were zero'
  if settings.training.keep_zeros:
    return f'{text}; they stayed zero where their channels are left (--nokeep_zeros lets them go).'
  return f'{text}; {100 * zero_fraction(model):.1f} % are now, because of --nokeep_zeros.'
