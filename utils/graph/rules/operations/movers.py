"""What operations that move values share."""

from __future__ import annotations

from secateurs.utils.graph.rules.base import Rule, Trace
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.shapes import spread


class Mover(Rule):
  """Outputs hold the input's channels at other places: constants move with their atoms."""

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Constants by atom."""
    if len(ins) != 1:
      return Rule.constant(self, trace, ins)
    return [spread(trace, ins[0], number) for number in range(len(trace.outs))]
