"""Ranks of many small matrices at once."""

from __future__ import annotations

import numpy as np

_CHUNK_NUMBERS = 1 << 22


def matrix_ranks(maps: np.ndarray) -> np.ndarray:
  """The rank of each feature map, equal to numpy.linalg.matrix_rank of the float32 map.

  Singular values are the roots of the eigenvalues of the smaller Gram matrix. The products of float32
  numbers are exact in float64, so that a singular value s is known to about 1e-16 s_max^2 / s, far
  better than the tolerance max(h, w) * eps(float32) * s_max by which NumPy calls it zero. Only a value
  that lies within float32's rounding of the tolerance can be judged otherwise.

  Args:
    maps: float array [..., h, w]; judged as float32.

  Returns:
    int64 [...].
  """
  maps = np.asarray(maps, np.float32)
  shape, (height, width) = maps.shape[:-2], maps.shape[-2:]
  flat = maps.reshape(-1, height, width)
  ranks = np.zeros(len(flat), np.int64)
  tolerance = max(height, width) * np.finfo(np.float32).eps
  alive = np.flatnonzero(flat.any(axis=(1, 2)))
  size = max(_CHUNK_NUMBERS // (height * width), 1)
  for start in range(0, len(alive), size):
    chosen = alive[start : start + size]
    part = flat[chosen].astype(np.float64)
    turned = part.transpose(0, 2, 1)
    gram = part @ turned if height <= width else turned @ part
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    ranks[chosen] = (values > tolerance * values[:, -1:]).sum(axis=1)
  return ranks.reshape(shape)
