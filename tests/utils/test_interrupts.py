import os
import signal
import sys

import pytest

from secateurs.utils import interrupts


@pytest.fixture(autouse=True)
def restored():
  before, hook = signal.signal(signal.SIGINT, signal.default_int_handler), sys.unraisablehook
  yield
  interrupts.arm()  # Nothing is pending for tests that follow.
  signal.signal(signal.SIGINT, before)
  sys.unraisablehook = hook


class Short:
  """The signal is handled in its destructor, and Python ignores what it raises."""

  def __del__(self):
    press()


def test_an_interrupt_that_a_destructor_swallows_is_heard_later(capsys):
  interrupts.arm()
  interrupts.check()
  short = Short()
  del short
  with pytest.raises(KeyboardInterrupt):
    interrupts.check()
  assert capsys.readouterr().err == ''


def test_other_errors_of_destructors_are_printed(capsys):
  class Faulty:
    def __del__(self):
      raise ValueError('odd')

  interrupts.arm()
  Faulty()
  assert 'ValueError: odd' in capsys.readouterr().err


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
