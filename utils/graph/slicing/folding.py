"""Constants that silent channels still emit: folded into a bias, or the channel is kept."""

from __future__ import annotations

import numpy as np

from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.rules.base import Trace
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.norms import BatchNorm
from secateurs.utils.graph.rules.producers import Producer, weight
from secateurs.utils.graph.slicing.planning import HeldBack, Plan


def fold_constants(plan: Plan, explicit: dict[str, np.ndarray]) -> None:
  """Finds constants that dropped channels still emit; folds them, or keeps the channel."""
  if not _any_silent(plan):
    return
  constants = simulate(plan.graph)
  held: dict[int, str] = {}
  folds: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
  calls = plan.graph.traced.flat.calls_by_layer()
  for trace in plan.graph.traced.traces:
    for root in _lost_in_sums(plan, trace, constants):
      held.setdefault(
        root, f'its constant does not fold into {trace.call.name!r}, which has no bias'
      )
    if trace.consumed is None:
      continue
    name = trace.call.name
    given = constants[trace.call.inputs[0]]
    labels = trace.ins[0].labels
    gone = ~plan.alive[labels] & ~explicit.get(name, np.zeros(len(labels), bool))
    gone &= given.silent & (trace.rule.row_norms(trace.call.layer, len(trace.ins[0].labels)) > 0)
    if not gone.any():
      continue
    lost = gone & given.spoiled
    for root in labels[lost]:
      held.setdefault(
        int(root), f'its constant meets zero padding or an unknown layer before {name!r}'
      )
    loud = gone & ~given.spoiled & (given.value != 0)
    if not loud.any():
      continue
    if not trace.rule.ignores_borders(trace.call.layer):
      for root in labels[loud]:
        held.setdefault(
          int(root), f'its constant does not fold into {name!r}, {trace.rule.fold_obstacle}'
        )
    elif len(calls[name]) > 1:
      for root in labels[loud]:
        held.setdefault(int(root), f'its constant does not fold into {name!r}, which is shared')
    else:
      folds.setdefault(name, []).append((labels, np.where(loud, given.value, 0.0)))
  for root, reason in held.items():
    plan.alive[root] = True
    place = plan.graph.where(root)
    plan.held_back.append(HeldBack(int(place.group), int(place.element), reason))
  for name, parts in folds.items():
    trace = plan.graph.trace(name)
    values = sum(np.where(plan.alive[labels], 0.0, value) for labels, value in parts)
    plan.added_bias[name] = trace.rule.response(trace.call.layer, values)


def _lost_in_sums(plan: Plan, trace: Trace, constants: list[Constant]) -> list[int]:
  """Dropped elements whose constant takes part in a sum without kernel, and is not zero."""
  loud: dict[int, bool] = {}
  for number in (*trace.rule.summed(trace), *trace.rule.heard(trace)):
    given, labels = constants[trace.call.inputs[number]], trace.ins[number].labels
    for place in np.flatnonzero(~plan.alive[labels] & given.silent):
      zero = not given.spoiled[place] and given.value[place] == 0
      root = int(labels[place])
      loud[root] = loud.get(root, True) and not zero
  return [root for root, one in loud.items() if one]


def _any_silent(plan: Plan) -> bool:
  """True if some dropped channel comes from a zero filter or a zero gamma."""
  for trace in plan.graph.first_traces.values():
    outs = trace.outs[0].labels if trace.outs else np.zeros(0, int)
    gone = ~plan.alive[outs]
    if not gone.any():
      continue
    if isinstance(trace.rule, Producer) and trace.produced is not None:
      if not trace.rule.made(trace).any(axis=0)[gone].all():
        return True
    elif isinstance(trace.rule, BatchNorm):
      gamma = weight(trace.call.layer, 'gamma')
      if gamma is not None and (gamma[gone] == 0).any():
        return True
  return False


def simulate(graph: ChannelGraph) -> list[Constant]:
  """Follows constants through the model; returns one `Constant` for each tensor."""
  traced = graph.traced
  found = [Constant.live(len(channels.labels)) for channels in traced.channels]
  for trace in traced.traces:
    ins = [
      found[number]
      if len(found[number].value) == len(channels.labels)
      else Constant.live(len(channels.labels))
      for number, channels in zip(trace.call.inputs, trace.ins)
    ]
    for number, constant in zip(trace.call.outputs, trace.rule.constant(trace, ins)):
      found[number] = constant
  return found
