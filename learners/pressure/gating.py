"""Training of gates: which layers are gated at a time, rules of hardness and pull, and the cut."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.cuts.cutting import RowMasks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.pressure import gates as rules
from secateurs.learners.pressure.gated import gate_places, gated_network
from secateurs.learners.pressure.gates import ChannelGate
from secateurs.learners.pressure.gp_config import EACH, JOINTLY, GpConfig
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.counts.memory import tensor_bytes
from secateurs.utils.training import distributed

_FIRST_PULL = 10.0
_MAX_DIFFERENCE = 1e-4


class Gates:
  """The gates of a network's units.

  Attributes:
    graph: the network's channel graph.
    units: what is gated.
    groups: the units that are gated at a time.
  """

  def __init__(
    self, graph: ChannelGraph, units: Sequence[Unit], config: GpConfig, seed: int
  ) -> None:
    """Makes the gates.

    Args:
      graph: of the network in float32.
      units: what is gated; all have a place for a gate.
      config: the learner's flags.
      seed: of their weights.

    Raises:
      UserError: a pattern of the groups matches nothing.
    """
    self.graph, self.units, self._config = graph, list(units), config
    self.groups = groups_of(units, config.groups)
    self._by_unit: dict[str, ChannelGate] = {}
    self._places: dict[str, str] = {}
    self._pulls: dict[str, tf.Variable] = {}
    calls, shapes = graph.traced.flat.calls_by_layer(), graph.traced.flat.shapes
    for number, unit in enumerate(units):
      places = gate_places(graph, unit)
      self._places.update(dict.fromkeys(places, unit.name))
      gate = ChannelGate(config.init, config.alpha_first, seed + number, name=f'gate_{number}')
      gate(keras.Input(shapes[calls[places[0]][0].outputs[0]][1:]))
      self._by_unit[unit.name] = gate
      first = _FIRST_PULL if config.pull is None else config.pull
      self._pulls[unit.name] = tf.Variable(first, trainable=False)

  def variables(self) -> dict[str, tf.Variable]:
    """What a checkpoint must hold."""
    found = {f'pull/{name}': one for name, one in self._pulls.items()}
    for name, gate in self._by_unit.items():
      found |= {f'gate/{name}/{w.name.split(":")[0].rsplit("/", 1)[-1]}': w for w in gate.weights}
    return found

  def trainable(self, group: Sequence[Unit]) -> list[tf.Variable]:
    """The weights of some units' gates."""
    return [w for unit in group for w in self._by_unit[unit.name].trainable_weights]

  def pulls(self, group: Sequence[Unit]) -> list[tf.Variable]:
    """lambda of some units' gates."""
    return [self._pulls[unit.name] for unit in group]

  def map_bytes(self, group: Sequence[Unit]) -> int:
    """Bytes of one sample's maps that the gates of some units multiply."""
    flat, names = self.graph.traced.flat, {unit.name for unit in group}
    calls = flat.calls_by_layer()
    places = [layer for layer, name in self._places.items() if name in names]
    return sum(tensor_bytes(flat, calls[layer][0].outputs[0]) for layer in places)

  def network(self, model: keras.Model, group: Sequence[Unit]) -> keras.Model:
    """The network with the gates of some units in it; see `gated.gated_network`."""
    names = [unit.name for unit in group]
    places = {layer: name for layer, name in self._places.items() if name in names}
    return gated_network(model, {name: self._by_unit[name] for name in names}, places)

  def means(self, unit: Unit) -> np.ndarray:
    """Mean gates of a unit, [channels], over all processes, which must all ask."""
    means = self._by_unit[unit.name].means
    distributed.mean_variables([means])
    return means.numpy()

  def open_fraction(self, group: Sequence[Unit]) -> float:
    """Fraction of this process's gates that are open on average."""
    return float(np.mean([(self._by_unit[u.name].means.numpy() > 0.5).mean() for u in group]))

  def update(self, group: Sequence[Unit], targets: Mapping[str, float], progress: float) -> None:
    """Sets hardness and pulls after a fraction of the gates' training."""
    config = self._config
    step = (config.alpha_last - config.alpha_first) / config.nb_updates
    alpha = rules.alpha_at(config.alpha_first, config.alpha_last, progress)
    distributed.mean_variables([self._by_unit[unit.name].means for unit in group])
    for unit in group:
      means, target = self._by_unit[unit.name].means.numpy(), targets[unit.name]
      harder = rules.nudged(alpha, step, means, target, progress) if config.nudge else alpha
      self._by_unit[unit.name].alpha.assign(max(harder, config.alpha_first))
      if config.pull is None:
        self._pulls[unit.name].assign(rules.pull(means, target))

  # The cut.

  def fix(self, group: Sequence[Unit], kept: Mapping[str, np.ndarray]) -> None:
    """Makes the gates exactly 0 or 1."""
    for unit in group:
      self._by_unit[unit.name].code.assign(kept[unit.name].astype(np.float32))

  def require_equal(
    self,
    copy: Callable[[], keras.Model],
    group: Sequence[Unit],
    kept: Mapping[str, np.ndarray],
    images: np.ndarray,
  ) -> float:
    """How far the network with gates of 0 and 1 is from the masked one, as a fraction of its range.

    Raises:
      RuntimeError: the two differ.
    """
    model = copy()
    gated = tf.nest.flatten(self.network(model, group)(images, training=False)[0])
    masks = RowMasks(model, self.graph, self.units)
    masks.keep({unit.name: kept[unit.name] for unit in group})
    found = tf.nest.flatten(model(images, training=False))
    difference = max(
      float(np.abs(a.numpy() - b.numpy()).max() / (np.ptp(b.numpy()) or 1.0))
      for a, b in zip(gated, found, strict=True)
    )
    if difference > _MAX_DIFFERENCE:
      raise RuntimeError(
        f'The network with gates of 0 and 1 differs from the masked one by {difference:.1e} of the '
        f"outputs' range, where at most {_MAX_DIFFERENCE:.0e} was expected."
      )
    return difference


def groups_of(units: Sequence[Unit], groups: str) -> list[list[Unit]]:
  """Splits units into the groups that are gated at a time.

  Args:
    units: all of them, in order.
    groups: jointly, each, or patterns of names, separated by commas.

  Raises:
    UserError: a pattern matches no unit that is left, or a unit matches none.
  """
  if groups == JOINTLY:
    return [list(units)]
  if groups == EACH:
    return [[unit] for unit in units]
  found, left = [], list(units)
  for pattern in (one.strip() for one in groups.split(',')):
    mine = [unit for unit in left if fnmatch.fnmatch(unit.name, pattern)]
    if not mine:
      names = ', '.join(unit.name for unit in units)
      raise UserError(
        f'--gp_groups has the pattern {pattern!r}, which matches none of the layers that are not in an '
        f'earlier group: give jointly, each, or patterns of {names}.'
      )
    found.append(mine)
    left = [unit for unit in left if unit not in mine]
  if left:
    raise UserError(
      f'--gp_groups {groups} leaves {left[0].name} out: add a pattern, or --gp_skip {left[0].name}.'
    )
  return found
