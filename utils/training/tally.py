"""How many images a process has trained on and scored: what a method costs, on any machine.

An image trained is one of a batch of a training step (forward, backward, update), of the network or of
a candidate. An image scored is one that was run forward to judge, rank or refit; where only a part of
the network is run, as in scans of single layers, it counts as a whole one. In layer-wise training on
kept feature maps (`dis-chn-pruned`) an image counts as the part of the network, by multiply-adds, that
it is run through. Final evaluations are not counted.
"""

from __future__ import annotations

import dataclasses
import threading


@dataclasses.dataclass(frozen=True)
class Images:
  """Numbers of images, of all processes together."""

  trained: int = 0
  scored: int = 0


_lock = threading.Lock()  # Candidates are judged at the same time.
_trained = _scored = 0.0


def trained(number: float) -> None:
  """Counts images of training steps."""
  global _trained
  with _lock:
    _trained += number


def scored(number: float) -> None:
  """Counts images that were run forward."""
  global _scored
  with _lock:
    _scored += number


def counted() -> Images:
  """What was counted since the process began."""
  with _lock:
    return Images(round(_trained), round(_scored))
