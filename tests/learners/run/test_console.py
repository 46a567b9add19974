"""Lines that long work prints."""

import time

from secateurs.learners.run.console import with_eta


def test_long_work_says_how_much_is_left(monkeypatch, capsys):
  now = [0.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])
  for _ in with_eta(range(10), 10, 'evaluate'):
    now[0] += 8
  assert capsys.readouterr().out.splitlines() == [
    'evaluate  3/10  ETA 56 s',
    'evaluate  6/10  ETA 32 s',
    'evaluate  9/10  ETA 8 s',
  ]
  assert list(with_eta('abc', 3, 'quick')) == ['a', 'b', 'c']
  assert not capsys.readouterr().out
