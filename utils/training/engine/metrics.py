"""metrics.jsonl (one line per summary) and TensorBoard events of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path


class MetricsWriter:
  """Appends metrics of the phases to <log_dir>/metrics.jsonl and to TensorBoard's event files."""

  def __init__(self, log_dir: Path) -> None:
    self._log_dir = log_dir
    self._path = log_dir / 'metrics.jsonl'
    self._events: tf.summary.SummaryWriter | None = None

  def forget(self, phase: str, after_step: int) -> None:
    """Drops a phase's lines after a step, which a resumed run writes again, and damaged ones."""
    if not self._path.is_file():
      return
    kept = []
    for line in self._path.read_text(encoding='utf-8', errors='replace').splitlines():
      try:
        entry = json.loads(line)
        stays = entry.get('phase') != phase or entry.get('step', 0) <= after_step
      except (ValueError, TypeError, AttributeError, RecursionError):
        continue
      if stays:
        kept.append(line)
    with atomic_path(self._path) as partial:
      partial.write_text(''.join(f'{line}\n' for line in kept), encoding='utf-8')

  def write(self, phase: str, step: int, values: Mapping[str, Any]) -> None:
    """Writes one line: {phase, step, **values}.

    Raises:
      UserError: the folder cannot be written to.
    """
    finite = {name: v for name, v in values.items() if v is not None and math.isfinite(v)}
    try:
      self._log_dir.mkdir(parents=True, exist_ok=True)
      with self._path.open('a', encoding='utf-8') as file:
        file.write(json.dumps({'phase': phase, 'step': step, **finite}) + '\n')
      if self._events is None:
        self._events = tf.summary.create_file_writer(str(self._log_dir))
      with self._events.as_default():
        for name, value in finite.items():
          tf.summary.scalar(f'{phase}/{name}', value, step)
      self._events.flush()
    except (OSError, tf.errors.OpError) as error:
      raise UserError(
        f'{self._path} could not be written ({getattr(error, "strerror", None) or error}): make room '
        'or give another --log_dir.'
      ) from error
