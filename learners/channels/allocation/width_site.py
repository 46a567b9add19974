"""What allocating the widths of a network takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.run.helper import Helper
from secateurs.utils.graph import ChannelGraph


@dataclasses.dataclass(frozen=True)
class Site:
  """The network whose widths are allocated, and what measuring it takes.

  Attributes:
    helper: data and task.
    original: makes the network before compression, float32.
    graph: the channel graph of such a network.
    units: what may be pruned, from a channel graph.
    samples: gives (inputs, targets) that layers are refit over.
    method: how channels are chosen and weights refit, from the graph, the units and the samples.
    original_tflite: its file, for latencies.
    nb_threads: of the timing.
    seed: of the search.
    trials: the file of the search.
    save: writes a checkpoint in the middle of it.
    jobs: candidates of a search, or units of a scan, that are judged at the same time.
  """

  helper: Helper
  original: Callable[[], keras.Model]
  graph: Callable[[keras.Model], ChannelGraph]
  units: Callable[[ChannelGraph], Sequence[Unit]]
  samples: Callable[[], list[tuple]]
  method: Callable[[ChannelGraph, Sequence[Unit], Sequence[tuple]], Method]
  original_tflite: Path
  nb_threads: int
  seed: int
  trials: Callable[[], Path]
  save: Callable[[], None]
  jobs: int = 1
