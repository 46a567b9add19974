"""A network of the search, and what looking at it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.ram import form_of
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.settings import Settings
from secateurs.learners.search.building import rough
from secateurs.learners.search.reach import Reach
from secateurs.learners.search.state import Taken
from secateurs.utils.deploy import tflite_bytes
from secateurs.utils.deploy.devices.memory_form import MemoryForm
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training import distributed


@dataclasses.dataclass(frozen=True)
class Memory:
  """Activations of a network's float file.

  Attributes:
    form: in closed form, by the network's units.
    held: bytes at each operator, [operators].
  """

  form: MemoryForm
  held: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
  """A network of the search, and what looking at it takes.

  Attributes:
    model: float32, the task's outputs.
    bits: of its kernels by name, where they share values; empty elsewhere.
    reach: which channels may go.
    settings: of the run.
    cost: bytes, latency, macs or ram.
    file: float, int8 or packed.
    ms_by_part: what blocks, and channels of units, are worth in milliseconds.
    kinds: what may go: channels, blocks, zeros, bits.
    memory: where RAM is the cost, what each operator holds.
  """

  model: keras.Model
  bits: Mapping[str, int]
  reach: Reach
  settings: Settings
  cost: str
  file: str
  ms_by_part: Mapping[str, float]
  kinds: Sequence[str]
  memory: Memory | None = None

  def graph(self) -> ChannelGraph:
    """The network's channels."""
    return self.reach.graph(self.model)

  def units(self, graph: ChannelGraph) -> list[Unit]:
    """Units of channels."""
    return self.reach.units(graph)

  def with_memory(self, graph: ChannelGraph, units: Sequence[Unit]) -> Scene:
    """The same with what its operators hold, where that is the cost: one file for each unit."""
    if self.cost != 'ram':
      return self
    choices = Choices(graph, units, cost=lambda gone: 0.0)
    task = self.settings.helper.task

    def content(counts: Mapping[str, int]) -> bytes:
      taken = [
        Taken(unit.name, 'channels', unit.size, counts[unit.name], 0.0)
        for unit in units
        if counts[unit.name] < unit.size
      ]
      net = self.rough(taken)
      return distributed.from_chief(lambda: tflite_bytes(task.deployable(net)))

    form = form_of(choices, content)
    return dataclasses.replace(self, memory=Memory(form, form.held([0] * len(units))))

  def rough(self, taken: Sequence[Taken]) -> keras.Model:
    """A network of the structure that a choice leads to."""
    return rough(self.model, taken, self.reach)
