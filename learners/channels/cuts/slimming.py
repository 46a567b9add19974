"""From masks to a slim network, proved equal, and what it scores before its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.results import measuring
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.deploy import model_block
from secateurs.utils.deploy.files.exportable import nb_parity_images
from secateurs.utils.graph import (
  ChannelGraph,
  apply_plan,
  correct_norms,
  count,
  cut_norms,
  masked,
  plan_slice,
)
from secateurs.utils.graph.slicing.planning import Keep
from secateurs.utils.training.models.batch_norm import reestimate
from secateurs.utils.training.tasks.scores import Evaluation, Score

_MAX_SLIM_DIFFERENCE = 1e-4
_NB_NORM_IMAGES, _NORM_BATCH = 256, 64


class Sliced(NamedTuple):
  """A slim network.

  Attributes:
    model: the network.
    difference: how far its outputs were from the masked one's, as a fraction of their range.
    norms: names of the normalisations that lost channels which their statistics run over; their scale
      and offset were fitted to the masked network's after the comparison.
  """

  model: keras.Model
  difference: float
  norms: list[str]


def sliced(graph: ChannelGraph, keep: Keep, settings: Settings) -> Sliced:
  """The slim model, compared with the masked one.

  Args:
    graph: of the masked network.
    keep: what slicing keeps.
    settings: give images for the comparison, and for what makes up for cut normalisations.

  Raises:
    RuntimeError: the two differ.
  """
  # A unit of which nothing stays takes its residual branch along.
  least = min((len(kept) for kept in keep.values()), default=1)
  plan = plan_slice(graph, keep, min_channels=min(least, 1))
  slim = apply_plan(plan)
  images = settings.helper.calibration_images(nb_parity_images(graph.model))
  with masked(plan):
    expected = nested.as_numpy(graph.model(images, training=False))
  found = nested.as_numpy(slim(images, training=False))
  pairs = zip(nested.parts(found), nested.parts(expected), strict=True)
  difference = max(float(np.abs(a - b).max() / (np.ptp(b) or 1.0)) for a, b in pairs)
  if difference > _MAX_SLIM_DIFFERENCE:
    raise RuntimeError(
      f"The slim network differs from the masked one by {difference:.1e} of the outputs' range, "
      f'where at most {_MAX_SLIM_DIFFERENCE:.0e} was expected.'
    )
  if graph.norms == 'cut':
    images = settings.helper.calibration_images(_NB_NORM_IMAGES)
    correct_norms(plan, slim, _in_batches(images))
  return Sliced(slim, difference, cut_norms(plan))


def norms_note(names: Sequence[str]) -> str:
  """What it means that normalisations were cut, in two sentences."""
  shown = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
  return (
    f'Normalisations over channels were cut: {shown} ({len(names)} in all). Their mean and variance '
    'run over the channels that are left, so outputs change by more than what the cut channels '
    'carried; scale and offset were fitted in closed form to make up.'
  )


def _in_batches(images: Any) -> list[Any]:
  starts = range(0, nested.size(images), _NORM_BATCH)
  return [nested.rows(images, slice(start, start + _NORM_BATCH)) for start in starts]


def kept_fraction(graph: ChannelGraph, keep: Keep) -> float:
  """The fraction of the channels of the cut groups and layers that stays."""
  sizes = [
    graph.groups[key].size if isinstance(key, int) else len(graph.inputs(key[0]).roots)
    for key in keep
  ]
  return sum(map(len, keep.values())) / sum(sizes)


def untrained_block(
  model: keras.Model, settings: Settings, batches: Iterable[np.ndarray]
) -> dict[str, Any]:
  """Block of the report of a slim model that has not been trained; `batches` re-estimate its BN."""
  evaluation = measuring.evaluate_model(model, settings.helper, settings.run)
  renewed = _reestimated(model, settings, batches)
  return model_block(
    count=count(model),
    evaluation=evaluation.block(),
    score_bn_reestimated=renewed.score.value,
    **measuring.sparsities(model),
  )


def untrained_scores(
  model: keras.Model, settings: Settings, batches: Iterable[np.ndarray]
) -> dict[str, Any]:
  """The two scores of such a block alone."""
  evaluation = measuring.evaluate_model(model, settings.helper, settings.run)
  renewed = _reestimated(model, settings, batches)
  return {'score': evaluation.score.as_json(), 'score_bn_reestimated': renewed.score.value}


def say_scores(title: str, block: dict[str, Any]) -> None:
  """Prints both scores."""
  score = Score(**block['score'])
  renewed = str(dataclasses.replace(score, value=block['score_bn_reestimated']))
  name = score.label or score.name
  say(f'{title}: {score}, with BN re-estimated {renewed.removeprefix(name).strip()}')


def _reestimated(
  model: keras.Model, settings: Settings, batches: Iterable[np.ndarray]
) -> Evaluation:
  """The evaluation with BN's statistics re-estimated; the model stays as it is."""
  weights = model.get_weights()
  reestimate(model, batches)
  renewed = measuring.evaluate_model(model, settings.helper, settings.run)
  model.set_weights(weights)
  return renewed
