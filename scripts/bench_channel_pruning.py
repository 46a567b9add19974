"""Compares channel selection from normal equations with LASSO on the matrix of samples.

Usage: python scripts/bench_channel_pruning.py [--channels 64] [--outputs 64] [--samples 10000]

One 3x3 layer with random, correlated inputs; half of its channels are kept. All methods use the same
samples and refit by least squares:

  samples  scikit-learn's Lasso on the matrix of all contributions [samples * outputs, channels], alpha
           found by bisection until half of the channels are left, then numpy's lstsq
  gram     this project: sums over batches, the LARS path from the Gram matrix, Cholesky
  greedy   the same sums, backward elimination instead of LASSO

Prints seconds (including the sums over samples), the ratio to `samples`, the Jaccard index of the kept
channels, the error after the refit, and the bytes in memory.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.linear_model import Lasso
from threadpoolctl import threadpool_limits

from secateurs.utils.training.layerwise.channel_choice import channel_moments, lasso_keep
from secateurs.utils.training.layerwise.elimination import backward_order
from secateurs.utils.training.layerwise.least_squares import NormalEquations, refit
from secateurs.utils.training.layerwise.readers import Reader

TAPS, BATCH, RIDGE, TRIES = 9, 640, 1e-6, 40


def make_samples(
  samples: int, channels: int, outputs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Rectified, correlated inputs [n, 9 c], weights [9 c, q], outputs [n, q]."""
  rng = np.random.default_rng(seed)
  factors = rng.normal(size=(samples, channels // 2))
  mixed = factors @ rng.normal(size=(channels // 2, TAPS * channels)) / np.sqrt(channels / 2)
  x = np.maximum(mixed + 0.7 * rng.normal(size=mixed.shape), 0)
  strength = np.tile(rng.uniform(0.2, 2, channels), TAPS)[:, None]
  weights = rng.normal(size=(TAPS * channels, outputs)) * strength / np.sqrt(TAPS * channels)
  x, weights = x.astype(np.float32), weights.astype(np.float32)
  return x, weights, x @ weights


def by_samples(
  x: np.ndarray, weights: np.ndarray, y: np.ndarray, nb_keep: int
) -> tuple[np.ndarray, int]:
  """Selects with scikit-learn; returns the kept channels and the bytes of the matrix."""
  channels = len(weights) // TAPS
  columns = np.stack(
    [
      ((x[:, c::channels] @ weights[c::channels]) / np.linalg.norm(weights[c::channels])).ravel()
      for c in range(channels)
    ],
    axis=1,
  )
  target = y.ravel()
  low, high = 0.0, float(np.abs(columns.T @ target).max() / len(target))
  found = np.ones(channels, bool)
  for _ in range(TRIES):
    alpha = (low + high) / 2
    found = Lasso(alpha, fit_intercept=False).fit(columns, target).coef_ != 0
    if found.sum() == nb_keep:
      break
    low, high = (alpha, high) if found.sum() > nb_keep else (low, alpha)
  rows = np.tile(found, TAPS)
  np.linalg.lstsq(x[:, rows], y, rcond=None)
  return found, columns.nbytes


def by_sums(
  x: np.ndarray, weights: np.ndarray, y: np.ndarray, nb_keep: int, greedy: bool
) -> tuple[np.ndarray, int]:
  """Selects with this project's code; returns the kept channels and the bytes of the sums."""
  channels = len(weights) // TAPS
  sums = NormalEquations.empty(len(weights), weights.shape[1])
  for first in range(0, len(x), BATCH):
    sums.add(x[first : first + BATCH], y[first : first + BATCH])
  moments = sums.moments(intercept=False)
  owner = np.tile(np.arange(channels), TAPS)
  reader = Reader(moments, weights.astype(np.float64), owner, np.ones(weights.shape[1]))
  if greedy:
    order, _ = backward_order([reader], channels, RIDGE)
    keep = np.isin(np.arange(channels), order[channels - nb_keep :])
  else:
    keep = lasso_keep(channel_moments([reader], channels).normalized(), nb_keep)
  refit(moments, keep[owner], RIDGE)
  return keep, sum(a.nbytes for a in vars(sums).values() if isinstance(a, np.ndarray))


def main() -> None:
  """Runs each method once and prints a line for it."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--channels', type=int, default=64)
  parser.add_argument('--outputs', type=int, default=64)
  parser.add_argument('--samples', type=int, default=10_000)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  x, weights, y = make_samples(options.samples, options.channels, options.outputs, options.seed)
  nb_keep = options.channels // 2
  ways = {
    'samples': lambda: by_samples(x, weights, y, nb_keep),
    'gram': lambda: by_sums(x, weights, y, nb_keep, False),
    'greedy': lambda: by_sums(x, weights, y, nb_keep, True),
  }
  energy, first = float(np.square(y).sum()), None
  print(f'{"":<8}{"seconds":>10}{"faster":>9}{"Jaccard":>9}{"error":>10}{"bytes":>15}')
  for name, way in ways.items():
    began = time.perf_counter()
    with warnings.catch_warnings(), threadpool_limits(1):
      warnings.simplefilter('ignore')
      keep, held = way()
    seconds = time.perf_counter() - began
    first = first or (seconds, keep)
    rows = np.tile(keep, TAPS)
    solution, *_ = np.linalg.lstsq(x[:, rows], y, rcond=None)
    error = float(np.square(y - x[:, rows] @ solution).sum()) / energy
    jaccard = (keep & first[1]).sum() / (keep | first[1]).sum()
    print(
      f'{name:<8}{seconds:>10.3f}{first[0] / seconds:>8.0f}x{jaccard:>9.2f}{error:>10.4f}{held:>15,}'
    )


if __name__ == '__main__':
  main()
