"""What refitting layers by least squares will take, from a network's graph."""

from __future__ import annotations

import tf_keras as keras

from secateurs.learners.run.preflight import estimate
from secateurs.learners.run.preflight.budget import Budget
from secateurs.learners.run.preflight.estimate import Need
from secateurs.utils.graph.counts.memory import map_bytes
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.layerwise.linear import MAX_ROWS, is_refittable, nb_rows


def cache_bytes(model: keras.Model, nb_samples: int) -> int:
  """Bytes of both networks' feature maps, in half precision, over the samples of refits."""
  return nb_samples * map_bytes(flatten_model(model)).inference


def refit_need(
  budget: Budget, model: keras.Model, nb_samples: int, max_rows: int | None = MAX_ROWS
) -> Need:
  """Normal equations of the layer with most rows, and kept feature maps.

  Args:
    budget: of the run.
    model: before it is cut.
    nb_samples: that layers are refit over.
    max_rows: most rows of a kernel that is refit; None for the usual number.
  """
  flat, rows = flatten_model(model), [0]
  for call in flat.calls:
    if is_refittable(call.layer, len(flat.shapes[call.inputs[0]]), max_rows or MAX_ROWS):
      rows.append(nb_rows(call.layer))
  return estimate.of_least_squares(
    budget, map_bytes(flat), max(rows), cache_bytes(model, nb_samples)
  )
