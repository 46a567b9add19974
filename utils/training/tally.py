"""How many images a process has trained on and scored: what a method costs, on any machine.

An image trained is one of a batch of a training step (forward, backward, update), of the network or of
a candidate. An image scored is one that was run forward to judge, rank or refit; where only a part of
the network is run, as in scans of single layers, it counts as a whole one. Layer-wise training on kept
feature maps (`dis-chn-pruned`) runs a few layers and is not counted, nor are final evaluations.
"""

from __future__ import annotations

import dataclasses
import threading


@dataclasses.dataclass
class Images:
  """Numbers of images, of all processes together."""

  trained: int = 0
  scored: int = 0


_lock = threading.Lock()  # Candidates are judged at the same time.
_images = Images()


def trained(number: int) -> None:
  """Counts images of training steps."""
  with _lock:
    _images.trained += number


def scored(number: int) -> None:
  """Counts images that were run forward."""
  with _lock:
    _images.scored += number


def counted() -> Images:
  """What was counted since the process began."""
  with _lock:
    return dataclasses.replace(_images)
