"""Tables of other devices: files and a script to run there, and what it leaves."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.utils.deploy.latency_table.files import (
  Point,
  content_of,
  empty_content,
  segment_content,
)
from secateurs.utils.deploy.latency_table.measure import FRACTIONS, distinct, plan_at, scale_of
from secateurs.utils.deploy.latency_table.prediction import segment_sum
from secateurs.utils.deploy.latency_table.segments import network_key, segments_of
from secateurs.utils.deploy.latency_table.table import LatencyTable, SegmentTimes
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.graph import ChannelGraph, apply_plan

INDEX, RESULTS = 'index.json', 'results'
_AVERAGE = re.compile(r'Inference \(avg\): ([\d.e+]+)')

SCRIPT = """#!/bin/sh
# Times all files here with TensorFlow Lite's benchmark_model, which
# https://ai.google.dev/edge/litert/models/measurement offers for each platform.
#
#   on a phone (adb):      ADB=1 BENCHMARK=/data/local/tmp/benchmark_model ./run.sh
#   on the device itself:  BENCHMARK=./benchmark_model ./run.sh
#
# Files that have a result are skipped: run it again after an interruption. Then, on the computer:
#   python -m secateurs.utils.deploy.latency_table MODEL --collect {folder} --device NAME
cd "$(dirname "$0")" || exit 1
mkdir -p results
for file in *.tflite; do
  [ -s "results/$file.txt" ] && continue
  flags="--num_threads={threads} --use_xnnpack=true --num_runs=20 --min_secs=0.2 --warmup_min_secs=0.05"
  if [ -n "$ADB" ]; then
    adb push "$file" /data/local/tmp/layer.tflite >/dev/null || exit 1
    adb shell "$BENCHMARK --graph=/data/local/tmp/layer.tflite $flags" >"results/$file.part" 2>&1 \\
      </dev/null || exit 1
  else
    "$BENCHMARK" --graph="$file" $flags >"results/$file.part" 2>&1 || exit 1
  fi
  mv "results/$file.part" "results/$file.txt"
  echo "$file $(grep -o 'Inference (avg): [0-9.e+]*' "results/$file.txt" | tail -1)"
done
"""


def emit(
  graph: ChannelGraph, folder: Path, kind: str, threads: int, say: Callable[[str], None]
) -> None:
  """Writes the files of a network's segments, of some cuts of it, and the script.

  Args:
    graph: of the network.
    folder: where to.
    kind: float or int8.
    threads: of the runtime.
    say: prints.
  """
  folder.mkdir(parents=True, exist_ok=True)
  head = {'kind': kind, 'threads': threads, 'network': _key(graph)}
  _forget_others(folder, head)
  index: dict[str, Any] = {**head, 'segments': {}}
  (folder / 'empty.tflite').write_bytes(empty_content(kind))
  for number, fraction in enumerate(FRACTIONS):
    content = content_of(apply_plan(plan_at(graph, fraction)), kind)
    (folder / f'network_{number}.tflite').write_bytes(content)
  nb_files = 1 + len(FRACTIONS)
  for segment, (inputs, outputs) in distinct(graph.traced.flat):
    try:
      for taken in inputs:
        for made in outputs:
          point = Point(taken, made if segment.makes else taken)
          content = segment_content(segment, point, kind)
          (folder / _name(segment.key, taken, made)).write_bytes(content)
          nb_files += 1
    except (RuntimeError, ValueError) as error:
      say(f'{segment.text}: left out ({first_line(error)})')
      continue
    index['segments'][segment.key] = [segment.text, inputs, outputs]
  (folder / INDEX).write_text(json.dumps(index, indent=1) + '\n', encoding='utf-8')
  script = folder / 'run.sh'
  script.write_text(SCRIPT.format(folder=ascii(str(folder)), threads=threads), encoding='utf-8')
  script.chmod(0o755)
  say(f'wrote {nb_files} files and {script}')


def collect(table: LatencyTable, graph: ChannelGraph, folder: Path) -> None:
  """Adds to a table what the script has measured.

  Raises:
    UserError: results are missing, or are of other files.
  """
  index = _read_index(folder)
  if (index['kind'], index['threads']) != (table.kind, table.threads):
    raise UserError(
      f'{folder} holds {index["kind"]} files for {index["threads"]} thread(s), but {table.kind} and '
      f'{table.threads} were asked for: give the flags of --emit.'
    )
  if index['network'] != _key(graph):
    raise UserError(
      f'{folder} holds the files of another network than the given one: give the model of --emit, or '
      'the folder of this one.'
    )
  table.call_ms = _result(folder, 'empty.tflite')
  for key, (text, inputs, outputs) in index['segments'].items():
    ms = [[_result(folder, _name(key, taken, made)) for made in outputs] for taken in inputs]
    left = np.maximum(np.array(ms) - table.call_ms, 0.0).tolist()
    table.segments[key] = SegmentTimes(text, inputs, outputs, left)
  measured = [_result(folder, f'network_{number}.tflite') for number in range(len(FRACTIONS))]
  sums = [segment_sum(table, graph, plan_at(graph, fraction)) for fraction in FRACTIONS]
  table.networks[index['network']] = scale_of(sums, measured)


def _key(graph: ChannelGraph) -> str:
  return network_key(segments_of(graph.traced.flat))


def _forget_others(folder: Path, head: Mapping[str, Any]) -> None:
  """Removes the results of other files, whose names may be those of the new ones."""
  try:
    index = _read_index(folder)
  except UserError:
    index = {}
  if {name: index.get(name) for name in head} != head:
    (folder / INDEX).unlink(missing_ok=True)
    shutil.rmtree(folder / RESULTS, ignore_errors=True)


def _read_index(folder: Path) -> dict[str, Any]:
  """What `emit` has written.

  Raises:
    UserError: nothing, or it is damaged.
  """
  path = folder / INDEX
  if not path.is_file():
    raise UserError(f'{path} does not exist: give the folder that --emit wrote.')
  try:
    index = json.loads(path.read_text('utf-8'))
    found = {name: index[name] for name in ('kind', 'threads', 'network')}
    found['segments'] = {
      key: (str(text), *([int(one) for one in numbers] for numbers in (inputs, outputs)))
      for key, (text, inputs, outputs) in index['segments'].items()
    }
  except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
    raise UserError(
      f'{path} is not the list of files that --emit writes ({type(error).__name__}: {error}): write '
      'them again.'
    ) from error
  return found


def _name(key: str, taken: int, made: int) -> str:
  return f'{key}_{taken}_{made}.tflite'


def _result(folder: Path, name: str) -> float:
  """Mean time of a file in ms."""
  path = folder / RESULTS / f'{name}.txt'
  found = _AVERAGE.findall(path.read_text('utf-8', errors='replace')) if path.is_file() else []
  try:
    ms = float(found[-1]) / 1000
    if not 0 <= ms < float('inf'):
      raise ValueError(found[-1])
    return ms
  except (IndexError, ValueError):
    raise UserError(
      f'{path} has no time of benchmark_model: run {folder / "run.sh"} to its end first.'
    ) from None
