"""What simple selections give at the same numbers of channels, refit and as they are."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts import slimming
from secateurs.learners.channels.cuts.cutting import (
  dropped_inputs,
  keep_of,
  mask_attentions,
  zero_inputs,
)
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import prune
from secateurs.learners.run.settings import Settings
from secateurs.utils.graph import ChannelGraph

_SELECTIONS = ('magnitude', 'random')


def compare_selections(
  settings: Settings,
  graph: ChannelGraph,
  original: Callable[[], keras.Model],
  units: Sequence[Unit],
  counts: Mapping[str, int],
  images: Sequence[np.ndarray],
  method: Method,
  bn_images: Iterable[np.ndarray],
) -> dict[str, dict[str, Any]]:
  """Scores of magnitude and random selection, before any training.

  Args:
    settings: give data and task.
    graph: of the network.
    original: makes the network before compression.
    units: what is chosen from.
    counts: channels that stay, by unit name.
    images: that layers are refit over.
    method: how weights are refit.
    bn_images: that BN is re-estimated over.

  Returns:
    The scores of `slimming.untrained_scores` by title.
  """
  reference, results = original(), {}
  for selection in _SELECTIONS:
    model = original()
    chosen = dataclasses.replace(method, selection=selection)
    mask = functools.partial(mask_attentions, model, graph, units)
    masks, _ = prune(reference, model, units, counts, images, chosen, mask=mask)
    kept = {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}
    plain = original()
    zero_inputs(plain, dropped_inputs(units, masks))  # Else constants of what goes would be kept.
    for title, network in ((f'{selection}, refit', model), (selection, plain)):
      slim = slimming.sliced(graph.again(network), keep_of(units, kept), settings).model
      results[title] = slimming.untrained_scores(slim, settings, bn_images)
      slimming.say_scores(f'For comparison, {title}', results[title])
  return results
