"""The least that a search can come to, and what that costs: what a limit may ask for."""

from __future__ import annotations

from collections.abc import Callable

import tf_keras as keras

from secateurs.learners.search.building import (
  Repair,
  repaired,
  smallest_zero,
  without_blocks,
)
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.files import Costs
from secateurs.learners.search.savings import is_skipped
from secateurs.learners.search.scene import Scene
from secateurs.learners.search.state import Taken
from secateurs.learners.search.telling import a_file, amount
from secateurs.learners.search.trying import Judge
from secateurs.utils.errors import UserError
from secateurs.utils.graph import drop_block, residual_blocks
from secateurs.utils.training.models.weights import kernels_by_name

_LEAST_BITS = 2
_TIMING = 0.9  # Latencies of one file differ by so much between measurements.


def require_reachable(
  config: JsConfig, scene: Scene, costs: Costs, judge: Judge, repair: Callable[[], Repair]
) -> None:
  """Checks that a limit of the cost is not below the least network that can be made.

  Args:
    config: what was asked for.
    scene: the original.
    costs: in the kind of file that is searched for.
    judge: scores on held-out samples.
    repair: gives samples and method of refits, once they are needed.

  Raises:
    UserError: it is; says the least, and what is left of the score there before any training.
  """
  if config.limit is None:
    return
  taken = everything(scene)
  net = scene.rough(taken)
  least = costs.of(net, _few(scene, net))
  if least <= config.limit / (_TIMING if config.cost == 'latency' else 1.0):
    return
  left = ''
  if taken:
    model, _ = repaired(scene.model, taken, scene.reach, repair(), scene.settings)
    left = f', with {judge(costs.predictor(model)).score} before any training'
  raise UserError(
    f'--js_max_{config.cost} {amount(config.cost, config.limit)} is out of reach: with all gone that '
    f'--js_take {config.take} and --js_trunk {config.trunk} let go, {amount(config.cost, least)} stay '
    f'in {a_file(scene.file)}{left}. Raise the limit, or let more go with these or --js_skip.'
  )


def everything(scene: Scene) -> list[Taken]:
  """All that may go: residual blocks, and the channels that are left, except for the last ones."""
  found: list[Taken] = []
  net = scene.model
  while 'blocks' in scene.kinds:
    name = next((one for one in residual_blocks(net) if not _stays(scene, net, one)), None)
    if name is None:
      break
    found.append(Taken(name, 'block', 1, 0, 0.0))
    net = drop_block(net, name)
  if 'channels' in scene.kinds:
    graph = scene.reach.graph(without_blocks(scene.model, found))
    for unit in scene.reach.units(graph):
      least = max(unit.rule.count(unit.size, 1), 1)
      found.append(Taken(unit.name, 'channels', unit.size, least, 0.0))
  return found


def _stays(scene: Scene, net: keras.Model, block: str) -> bool:
  return is_skipped(scene, net, drop_block(net, block))


def _few(scene: Scene, net: keras.Model) -> dict[str, int]:
  """For a packed file: one nonzero of two bits in each kernel, which no search comes below."""
  if scene.file != 'packed':
    return {}
  kernels = kernels_by_name(net)
  if 'zeros' in scene.kinds:
    for kernel in kernels.values():
      kernel.assign(smallest_zero(kernel.numpy(), 1))
  return dict.fromkeys(kernels, _LEAST_BITS) if 'bits' in scene.kinds else dict(scene.bits)
