"""What each learner takes on ImageNet's networks: peak memory, its estimate, seconds of each phase.

Usage: python scripts/bench_imagenet.py --data DIR [--networks resnet50,vgg16] [--learners chn-pruned]
                                        [--out FILE.jsonl] [--size 224] [--batch 16] [-- FLAGS]

DIR holds train/<class>/ and val/<class>/ with photographs. Each run is a separate process, whose peak
is the system's (getrusage); its trainings have a few steps, since memory and the time of a step do not
depend on their number. Runs that FILE.jsonl has are not run again, so that a sweep can be stopped. The
table is printed in Markdown at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# With their billions of multiply-adds at 224.
NETWORKS = {
  'mobilenet_v2': 0.30,
  'mobilenet_v1': 0.57,
  'resnet18': 1.8,
  'resnet34': 3.7,
  'resnet50': 4.1,
  'resnet101': 7.8,
  'vgg16': 15.5,
}
_PEAK = re.compile(r'Peak memory: ([\d,]+) MB, estimated before: ([\d,]+) MB')
# Flags that make runs short, of the learners that have them.
_SHORT = {
  'full-prec': ['--nb_epochs_rat=0.05'],
  'chn-pruned': ['--cp_nb_batches=4'],
  'dis-chn-pruned': [
    '--dcp_nb_iters_block=2', '--dcp_nb_iters_layer=1', '--dcp_chns_per_step=1000',
    '--dcp_nb_smpls_layer=64', '--dcp_nb_batches_score=1',
  ],
  'filter-pruned': ['--fp_nb_batches=4'],
  'reg-pruned': ['--rp_nb_batches=4'],
  'gate-pruned': ['--gp_nb_batches=4'],
  'joint-search': ['--js_nb_tries=2', '--js_nb_smpls_scan=16'],
}  # fmt: skip


def main() -> None:
  """Runs what is missing and prints the table."""
  argv = sys.argv[1:]
  end = argv.index('--') if '--' in argv else len(argv)
  argv, further = argv[:end], argv[end + 1 :]
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data', required=True)
  parser.add_argument('--networks', default=','.join(NETWORKS))
  parser.add_argument('--learners', default='')
  parser.add_argument('--out', default='imagenet.jsonl')
  parser.add_argument('--size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--make', help=argparse.SUPPRESS)
  args = parser.parse_args(argv)
  if args.make:
    make(*json.loads(args.make))
    return
  out = Path(args.out)
  done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
  names = args.learners.split(',') if args.learners else _learners()
  with tempfile.TemporaryDirectory() as folder:
    for network in args.networks.split(','):
      for learner in names:
        key = {'network': network, 'learner': learner, 'size': args.size, 'batch': args.batch}
        if any(key.items() <= one.items() for one in done):
          continue
        done.append(key | measured(key, Path(args.data), Path(folder), further))
        with out.open('a', encoding='utf-8') as file:
          file.write(json.dumps(done[-1]) + '\n')
        print(line(done[-1]), flush=True)
  print()
  print(table(done))


# Of processes that this one starts, the peak begins with its own: so it loads no TensorFlow.


def _learners() -> list[str]:
  code = 'from secateurs.learners import learners; print(*learners())'
  done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
  return done.stdout.split()


def saved(network: str, size: int, classes: int, folder: Path, data: Path) -> Path:
  """A .keras file of one of the networks with random weights, made in another process."""
  path = folder / f'{network}_{size}.keras'
  if not path.exists():
    point = json.dumps([network, size, classes, str(path), str(data)])
    subprocess.run([sys.executable, __file__, '--data', '', '--make', point], check=True)
  return path


def make(network: str, size: int, classes: int, path: str, data: str) -> None:
  """Builds and saves a network; its logits have a mean of zero, so that all classes come."""
  from secateurs.utils.quiet import quiet_tensorflow

  quiet_tensorflow()
  import tensorflow as tf
  import tf_keras as keras

  from secateurs.nets import mobilenet, resnet, vgg

  keras.utils.set_random_seed(0)
  shape = (size, size, 3)
  if network.startswith('resnet'):
    model = resnet.imagenet_resnet(int(network.removeprefix('resnet')), shape, classes)
  else:
    builders = {
      'vgg16': vgg.vgg16,
      'mobilenet_v1': mobilenet.mobilenet_v1,
      'mobilenet_v2': mobilenet.mobilenet_v2,
    }
    model = builders[network](shape, classes)
  found = photographs(Path(data))
  files = [str(one) for one in found[:: max(len(found) // 32, 1)]]
  images = [tf.io.decode_jpeg(tf.io.read_file(one), channels=3) for one in files]
  pixels = tf.stack([tf.image.resize(one, (size, size)) for one in images]) / 127.5 - 1.0
  kernel, bias = model.layers[-1].get_weights()
  model.layers[-1].set_weights([kernel, bias - model(pixels).numpy().mean(axis=0)])
  model.save(path)


def photographs(data: Path) -> list[Path]:
  """All files of a folder with train/<class>/ and val/<class>/."""
  return sorted(one for one in data.glob('*/*/*') if one.suffix.lower() in ('.jpg', '.jpeg'))


def measured(key: dict, data: Path, folder: Path, further: list[str]) -> dict:
  """One run: peak and estimate in MB, seconds by phase, ratios; or its error."""
  classes = len([path for path in (data / 'train').iterdir() if path.is_dir()])
  model = saved(key['network'], key['size'], classes, folder, data)
  run_dir = folder / f'{key["network"]}_{key["learner"]}'
  command = [
    sys.executable, 'nets/saved_model_run.py', f'--model={model}', '--preprocess=-1..1',
    f'--learner={key["learner"]}', f'--run_dir={run_dir}',
    f'--batch_size={key["batch"]}', '--nb_epochs_ft=1', '--bench_threads=1',
    *_SHORT.get(key['learner'], []), *_samples(key, data, folder), *further,
  ]  # fmt: skip
  began = time.monotonic()
  with (folder / 'log').open('w+', encoding='utf-8') as log:
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    log.seek(0)
    told = log.read()
  found = {'seconds': time.monotonic() - began, 'peak_mb': usage.ru_maxrss / 1024}
  if process.returncode:
    return found | {'error': (told.strip() or f'exit code {process.returncode}')[-400:]}
  (path,) = run_dir.glob('logs/*/report.json')
  report = json.loads(path.read_text(encoding='utf-8'))
  estimate = _PEAK.search(told)
  return found | {
    'estimate_mb': float(estimate[2].replace(',', '')) if estimate else None,
    'phases': {phase['name']: phase['seconds'] for phase in report['phases']},
    'macs': report['achieved'].get('macs_ratio'),
    'latency': _latency(report),
  }


def _samples(key: dict, data: Path, folder: Path) -> list[str]:
  """The data, and how much of it.

  A search refuses a network that guesses, as one with random weights does: it gets images without
  labels, and half of the multiply-adds as its limit.
  """
  if key['learner'] != 'joint-search':
    return [
      f'--data_dir_local={data}', f'--nb_smpls_train={4 * key["batch"]}', '--nb_smpls_eval=32'
    ]  # fmt: skip
  alone = folder / 'images'
  if not alone.exists():
    alone.mkdir()
    for number, path in enumerate(photographs(data)[:200]):
      (alone / f'{number}.jpg').symlink_to(path.resolve())
  macs = 500 * NETWORKS[key['network']] * (key['size'] / 224) ** 2
  return [f'--data_dir_local={alone}', '--data_set=images', f'--js_max_macs={macs:.0f}M']


def _latency(report: dict) -> float | None:
  before, after = (report[part].get('latency') for part in ('original', 'compressed'))
  return after[0]['p50_ms'] / before[0]['p50_ms'] if before and after else None


def line(one: dict) -> str:
  """A row of the table."""

  def ratio(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}x'

  start = f'| {one["network"]} | {one["learner"]} | {one["peak_mb"] / 1024:.1f} '
  if 'error' in one:
    return f'{start}| - | - | - | {one["seconds"]:.0f} s | {" ".join(one["error"].split())} |'
  estimate = one['estimate_mb']
  known = '-' if estimate is None else f'{estimate / 1024:.1f} ({estimate / one["peak_mb"]:.2f}x)'
  phases = ', '.join(f'{name} {s:.0f}' for name, s in one['phases'].items() if s >= 0.5)
  return (
    f'{start}| {known} | {ratio(one["macs"])} | {ratio(one["latency"])} | {one["seconds"]:.0f} s '
    f'| {phases} |'
  )


def table(done: list[dict]) -> str:
  """All rows."""
  head = [
    '| network | learner | peak, GB | estimate, GB (of peak) | MACs | latency | time '
    '| seconds by phase |',
    '|---|---|---|---|---|---|---|---|',
  ]
  return '\n'.join([*head, *map(line, done)])


if __name__ == '__main__':
  main()
