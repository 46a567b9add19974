"""Times sparse .tflite files against the plain files of the same weights, interleaved; prints ratios.

Usage: python scripts/bench_sparse.py [--ratio 0.85] [--size 96] [--frames 300]

MobileNet-v1 with symmetric padding, whose 1x1 kernels `--ws_policy xnnpack` prunes by magnitude.
Weights are random, as the time does not depend on them. On x86 with AVX, XNNPACK uses its dense kernels
for both files (docs/weight_sparse.md); run this on the target device.

  dense    the plain file, which stores the zeros
  sparse   the file that does not store the zeros
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402

from secateurs.learners.weights.patterns import parse_pattern  # noqa: E402
from secateurs.learners.weights.xnnpack import xnnpack_kernels  # noqa: E402
from secateurs.nets.mobilenet import mobilenet_v1  # noqa: E402
from secateurs.utils.deploy import export_model, measure_latency  # noqa: E402
from secateurs.utils.training.engine.masks import nb_kept  # noqa: E402
from secateurs.utils.training.models.weights import kernels_by_name  # noqa: E402


def main() -> None:
  """Measures the unstructured and the block patterns."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--ratio', type=float, default=0.85)
  parser.add_argument('--size', type=int, default=96)
  parser.add_argument('--frames', type=int, default=300)
  options = parser.parse_args()
  print(f'MobileNet-v1, {options.size}x{options.size}, {options.ratio:.0%} zeros, 1 thread')
  with tempfile.TemporaryDirectory() as folder:
    for block in ('1x1', '1x2', '1x4'):
      model = mobilenet_v1((options.size, options.size, 3), 1000, symmetric=True)
      kernels = kernels_by_name(model)
      for name in xnnpack_kernels(model, kernels):
        weights = kernels[name].numpy()
        mask = parse_pattern(block, None).mask(weights, nb_kept(weights.size, options.ratio))
        kernels[name].assign(np.where(mask, weights, 0))
      export = export_model(model, Path(folder) / block, sparse=True)
      paths = {'dense': export.tflite.path, 'sparse': export.tflite_sparse.path}
      timed = measure_latency(paths, nb_frames=options.frames, threads=(1,))
      dense, sparse = (timed[kind][0]['p50_ms'] for kind in ('dense', 'sparse'))
      print(
        f'{block}: dense {dense:.3f} ms, {export.tflite.bytes} bytes; sparse {sparse:.3f} ms, '
        f'{export.tflite_sparse.bytes} bytes; sparse/dense {sparse / dense:.2f} in time, '
        f'{export.tflite_sparse.bytes / export.tflite.bytes:.2f} in size'
      )


if __name__ == '__main__':
  main()
