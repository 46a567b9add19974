"""Peak memory of each learner on ResNet-50 at 224x224.

Usage: python scripts/bench_memory.py [--learners NAME ...] [--batch 8] [--out FILE.md]

Each learner compresses ResNet-50 of tf_keras.applications with random weights on images of noise, four
classes, for a few steps, in a separate process. Printed are the peak of the process, the phase with the
highest one, and what was said beforehand. Steps are few because a peak does not depend on their number.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_NB_TRAIN, _NB_EVAL, _SIZE = 32, 8, 224
_SHORT = {
  'chn-pruned': {'cp_nb_batches': 2, 'cp_compare': False},
  'dis-chn-pruned': {
    'dcp_nb_stages': 1,
    'dcp_nb_iters_block': 1,
    'dcp_nb_iters_layer': 1,
    'dcp_nb_smpls_layer': 32,
    'dcp_nb_batches_score': 1,
    'dcp_chns_per_step': 256,
  },
  'joint-search': {'nb_tries': 1, 'nb_epochs_try': 0.1, 'minimise': 'macs', 'nb_smpls_val': 8},
}


def main() -> None:
  """Runs the learners and prints the table."""
  from secateurs.learners import learners

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--learners', nargs='*', help='default: all')
  parser.add_argument('--batch', type=int, default=8, help='images of a training step')
  parser.add_argument('--out', help='file for the table in Markdown')
  parser.add_argument('--one', help='run one learner in this process, and print it as JSON')
  args = parser.parse_args()
  if args.one:
    print(json.dumps(run(args.one, args.batch)))
    return
  lines = ['| learner | peak | in phase | said beforehand | time |', '|---|---|---|---|---|']
  for name in args.learners or sorted(learners()):
    command = [sys.executable, __file__, '--one', name, '--batch', str(args.batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
      print(name, done.stderr[-2000:], flush=True)
      continue
    found = json.loads(done.stdout.splitlines()[-1])
    lines.append(
      f'| {name} | {found["peak"]:.1f} GB | {found["phase"]} | {found["said"]} GB | '
      f'{found["seconds"] / 60:.0f} min |'
    )
    print(lines[-1], flush=True)
  if args.out:
    Path(args.out).write_text('\n'.join(lines) + '\n', encoding='utf-8')


def run(learner: str, batch_size: int) -> dict[str, Any]:
  """Compresses the network by one learner."""
  import tf_keras as keras

  import secateurs
  from secateurs.utils import memory

  rng = np.random.default_rng(0)
  data = [
    (rng.normal(size=(nb, _SIZE, _SIZE, 3)).astype(np.float32), np.arange(nb) % 4)
    for nb in (_NB_TRAIN, _NB_EVAL)
  ]
  keras.utils.set_random_seed(0)
  model = keras.applications.ResNet50(weights=None, classes=4)
  began, said = time.monotonic(), io.StringIO()
  with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
    result = secateurs.compress(
      model,
      *data,
      learner=learner,
      run_dir=folder,
      batch_size=batch_size,
      nb_epochs_ft=0.5,
      bench_frames=2,
      bench_threads='1',
      **_SHORT.get(learner, {}),
    )
  phases = {phase['name']: phase['peak_mb'] or 0 for phase in result.report['phases']}
  found = re.search(r'Memory: about (\S+) GB', said.getvalue())
  return {
    'peak': memory.peak() / (1 << 30),
    'phase': max(phases, key=phases.get),
    'said': found[1] if found else '-',
    'seconds': time.monotonic() - began,
  }


if __name__ == '__main__':
  main()
