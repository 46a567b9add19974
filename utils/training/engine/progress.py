"""What a phase shows while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO


def format_seconds(seconds: float) -> str:
  """Short duration, such as `45 s`, `3 min 20 s` or `2 h 05 min`."""
  seconds = round(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60:02d} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60:02d} min'


def _is_terminal(stream: TextIO) -> bool:
  """Whether a bar can be drawn: `docker -t` and `script` give terminals of no width."""
  if not stream.isatty():
    return False
  with contextlib.suppress(OSError, ValueError, AttributeError):
    return os.get_terminal_size(stream.fileno()).columns > 0
  return True


class Progress:
  """Progress of the steps of one phase.

  Args:
    phase: its name.
    start: steps done before this process.
    stop: steps at the end.
    batch_size: samples of one step.
    stream: where to write; a bar if it is a terminal, else one line per `summary`.
    shown: whether to write at all.
    metrics: names of the user's metrics.
    percent: names of metrics in [0, 1] that are shown in percent.
  """

  def __init__(
    self,
    phase: str,
    start: int,
    stop: int,
    batch_size: int,
    stream: TextIO | None = None,
    *,
    shown: bool = True,
    metrics: Sequence[str] = (),
    percent: Sequence[str] = (),
  ) -> None:
    self._phase, self._stop, self._batch_size = phase, stop, batch_size
    self._stream = stream or sys.stdout
    self._bar = None
    self._from_step, self._began = start, time.perf_counter()
    self._compiled, self._speed = False, 0.0
    self._shown, self._metrics, self._percent = shown, tuple(metrics), tuple(percent)
    if shown and _is_terminal(self._stream):
      from tqdm import tqdm

      self._bar = tqdm(
        total=stop, initial=start, desc=phase, unit='step', file=self._stream, dynamic_ncols=True
      )

  @property
  def images_per_sec(self) -> float:
    """Mean speed since the first call, which compiles and does not count; 0 before that."""
    return self._speed

  def update(self, step: int, means: Mapping[str, float]) -> None:
    """Takes note of the steps done and the latest means."""
    now = time.perf_counter()
    if not self._compiled:
      self._compiled, self._from_step, self._began = True, step, now
    elif now > self._began:
      self._speed = (step - self._from_step) * self._batch_size / (now - self._began)
    if self._bar is not None:
      self._bar.set_postfix_str(self._values(means), refresh=False)
      self._bar.update(step - self._bar.n)

  def summary(self, step: int, means: Mapping[str, float]) -> None:
    """Writes a plain line, where there is no bar."""
    if self._bar is not None or not self._shown:
      return
    eta = ''
    if self._speed:
      eta = f'  ETA {format_seconds((self._stop - step) * self._batch_size / self._speed)}'
    line = f'{self._phase}  step {step}/{self._stop}  {self._values(means)}{eta}'
    print(line, file=self._stream, flush=True)

  def close(self) -> None:
    """Leaves the bar as it stands."""
    if self._bar is not None:
      self._bar.close()

  def _values(self, means: Mapping[str, float]) -> str:
    parts = [f'loss {means["loss"]:.4f}'] if 'loss' in means else []
    parts += [f'{name} {100 * means[name]:.2f} %' for name in self._percent if name in means]
    if 'sparsity' in means:
      parts.append(f'sparsity {100 * means["sparsity"]:.1f} %')
    parts += [f'{name} {means[name]:.4g}' for name in self._metrics if name in means]
    if self._speed:
      parts.append(f'{self._speed:.0f} images/s')
    return '  '.join(parts)
