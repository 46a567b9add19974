"""How many rows of a tensor one sample takes, where a network moves positions into the batch."""

from __future__ import annotations

import math

from secateurs.utils.graph.flat.walk import FlatModel


def rows_per_sample(flat: FlatModel) -> list[int]:
  """Rows on the open axis of each tensor for one sample: 1, or more after a reshape that adds some.

  Windows of an attention that lie in the batch, as [batch * windows, tokens, channels], are the usual
  case: tf.reshape keeps the numbers of a sample, so where each row has fewer, there are more rows.
  """
  rows = [1] * len(flat.shapes)
  for call in flat.calls:
    most = max((rows[number] for number in call.inputs), default=1)
    for number in call.outputs:
      rows[number] = most
    if (getattr(call.layer, 'symbol', None) or '').split('.')[-1] == 'reshape':
      before, after = flat.shapes[call.inputs[0]], flat.shapes[call.outputs[0]]
      if before.count(None) == after.count(None) == 1:
        numbers = rows[call.inputs[0]] * _known(before)
        rows[call.outputs[0]] = max(numbers // max(_known(after), 1), 1)
  return rows


def _known(shape: tuple) -> int:
  return math.prod(size for size in shape if size is not None)
