"""Channels in the order of their norms, so that 1xN blocks hold weights of about equal size."""

from __future__ import annotations

import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.settings import Settings
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.slicing.rearranging import by_norm, rearrange

KERNELS_NOTE = (
  'The zeros lie in blocks of whole kernels. They make the sparse .tflite file smaller; TensorFlow '
  "Lite's XNNPACK runtime has sparse kernels for 1x1 convolutions only, so that others run as before."
)


def sort_channels(settings: Settings, model: keras.Model) -> None:
  """Permutes a network's weights in place, and proves that its outputs stay (Lin et al. 2021).

  Args:
    settings: its precision.
    model: in the precision of the training.

  Raises:
    UserError: the outputs change.
  """
  plain = settings.in_float32(model)
  graph = ChannelGraph(plain)
  orders = by_norm(graph)
  rearrange(graph, orders)
  model.set_weights(plain.get_weights())
  say(
    f'rearrange  {len(orders)} of {len(graph)} channel groups sorted by the norm of their filters'
  )
