"""What a run says to the user."""

from __future__ import annotations

from secateurs.utils.training import distributed


def say(text: str) -> None:
  """Prints a line; of several processes one does."""
  if distributed.is_chief():
    print(text, flush=True)
