import os
import signal

import pytest

from secateurs.utils import interrupts


@pytest.fixture(autouse=True)
def restored():
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  interrupts.arm()  # Nothing is pending for tests that follow.
  signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_a_destructor_swallows_is_heard_later(monkeypatch):
  class Short:
    def __del__(self):
      press()  # The signal is handled in here, and Python ignores what it raises.

  interrupts.arm()
  interrupts.check()
  short = Short()
  monkeypatch.setattr('sys.unraisablehook', lambda error: None)
  del short
  with pytest.raises(KeyboardInterrupt):
    interrupts.check()


def press():
  os.kill(os.getpid(), signal.SIGINT)
  for _ in range(1000):
    pass


def test_an_interrupt_is_raised_at_once():
  interrupts.arm()
  with pytest.raises(KeyboardInterrupt):
    press()


def test_where_it_is_ignored_it_stays_so():
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  interrupts.arm()
  press()
  interrupts.check()
