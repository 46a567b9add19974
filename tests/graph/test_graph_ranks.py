import numpy as np
import pytest

from secateurs.utils.graph.choice.ranks import matrix_ranks


@pytest.mark.parametrize('shape', [(2, 2), (5, 9), (9, 5), (32, 32), (1, 7)])
def test_ranks_are_numpys(shape):
  rng = np.random.default_rng(0)
  height, width = shape
  maps = []
  for rank in range(min(shape) + 1):
    for _ in range(20):
      maps.append(rng.normal(size=(height, rank)) @ rng.normal(size=(rank, width)))
  maps = np.array(maps, np.float32)
  kinds = [maps, np.maximum(maps, 0), np.maximum(maps - 1, 0), np.where(maps > 0.5, maps, 0) * 1e-6]
  for kind in kinds:
    kind = np.asarray(kind, np.float32)
    expected = np.linalg.matrix_rank(kind)
    assert (matrix_ranks(kind) == expected).mean() >= 0.999
  assert matrix_ranks(maps.reshape(-1, 4, *shape)).shape == (len(maps) // 4, 4)
  assert not matrix_ranks(np.zeros((3, *shape))).any()
