"""Times the files of a run against each other; the chief does it, and sends the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.console import say
from secateurs.learners.run.files import with_ending
from secateurs.utils.deploy import measure_latency
from secateurs.utils.deploy.runtime.latency import Timed
from secateurs.utils.deploy.runtime.sound_files import require_sound
from secateurs.utils.deploy.runtime.throughput import measure_throughput, pinned
from secateurs.utils.training import distributed


def add_latency(
  blocks: Mapping[str, dict[str, Any]],
  prefixes: Mapping[str, Path],
  run: RunConfig,
  further: Mapping[str, Timed] | None = None,
) -> dict[str, list[dict[str, float]]]:
  """Times the .tflite files of some blocks, interleaved, and puts the figures into the blocks.

  Args:
    blocks: blocks of the report by name.
    prefixes: start of their files' names, by the same names.
    run: frames and threads.
    further: what no block describes, timed among them.

  Returns:
    Latency of `further`, by its names.
  """
  paths: dict[tuple[str, str], Any] = {}
  for name, prefix in prefixes.items():
    if 'tflite_bytes' in blocks[name]:
      paths[name, 'float'] = with_ending(prefix, '.tflite')
    for kind in ('int8', 'sparse', 'quant'):
      if kind in blocks[name]:
        paths[name, kind] = with_ending(prefix, f'_{kind}.tflite')
  timed, streamed = distributed.from_chief(lambda: timed_files(paths, run, further))
  for name, kind in paths:
    latency = timed[name, kind]
    target = blocks[name] if kind == 'float' else blocks[name][kind]
    target['latency'] = latency
    if streamed:
      target['throughput'] = [streamed[name, kind]]
  return {name: timed[name] for name in further or {}}


def timed_files(
  paths: Mapping[Any, Path], run: RunConfig, further: Mapping[Any, Timed] | None = None
) -> tuple[dict, dict]:
  """Latency and, where streams were asked for, throughput of .tflite files.

  Args:
    paths: files by name.
    run: frames, threads, cores and streams.
    further: what is timed among them, without throughput.

  Returns:
    What `measure_latency` and `measure_throughput` give; entries name the cores where they are pinned.

  Raises:
    UserError: a file is damaged, or the machine has not so many cores, or not the memory for so many
      streams.
  """
  require_sound(paths.values())
  if run.threads_left_out:
    say(
      f'Latency with {", ".join(map(str, run.threads_left_out))} threads is not measured: they would '
      f'share --bench_cores {run.bench_cores}.'
    )
  with pinned(run.bench_cores):
    every = {**paths, **(further or {})}
    timed = measure_latency(every, nb_frames=run.bench_frames, threads=run.threads)
    streamed = measure_throughput(paths, run.bench_streams) if run.bench_streams else {}
  if run.bench_cores:
    for entry in (*(one for entries in timed.values() for one in entries), *streamed.values()):
      entry['cores'] = run.bench_cores
  return timed, streamed
