"""Ctrl-C that cannot get lost.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a destructor or in a callback
of the garbage collector it is printed with a traceback and ignored, and a program that makes many
short-lived objects would continue as if nothing had been pressed. `check` raises it again at moments
where nothing catches it, and nothing is printed until then.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType


class _Interrupts:
  """Whether Ctrl-C was pressed since `arm`."""

  def __init__(self) -> None:
    self.pressed = False

  def handle(self, number: int, frame: FrameType | None) -> None:
    del number, frame
    self.pressed = True
    raise KeyboardInterrupt

  @staticmethod
  def ignored(error: sys.UnraisableHookArgs) -> None:
    """Called by Python with what it ignores."""
    if not issubclass(error.exc_type, KeyboardInterrupt):
      sys.__unraisablehook__(error)


_interrupts = _Interrupts()


def arm() -> None:
  """Remembers Ctrl-C from here on; for the main thread of a program, not for a library.

  Where it is ignored, as in background jobs of a shell script, it stays so.
  """
  _interrupts.pressed = False
  if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, _interrupts.handle)
    sys.unraisablehook = _interrupts.ignored


def check() -> None:
  """Raises KeyboardInterrupt if Ctrl-C was pressed, whatever became of it then."""
  if _interrupts.pressed:
    raise KeyboardInterrupt
