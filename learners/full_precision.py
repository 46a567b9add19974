"""FullPrecLearner: trains the network as it is, and measures it: the baseline of all others."""

from __future__ import annotations

from secateurs.learners import register
from secateurs.learners.run.full_training import FullTraining


@register
class FullPrecLearner(FullTraining):
  """Trains with SGD and a piecewise constant rate, as the network's recipe says."""
