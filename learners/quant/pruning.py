"""Iterative pruning before weights are shared, with a quality factor for each kernel.

Han et al. 2016 (arXiv:1510.00149), section 2: connections below a threshold go, the others are
retrained. The threshold is a quality factor times the standard deviation of the layer's weights (Han et
al. 2015, arXiv:1506.02626, section 3.3). Factors follow from the sensitivity scan of weight-sparse, so
that every kernel raises the loss equally and the ratio is met; the papers choose them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from secateurs.learners.quant.configs import NuqlConfig
from secateurs.learners.quant.state import NuqlState
from secateurs.learners.weights.allocation import MeasuredAllocation, Site
from secateurs.learners.weights.configs import WsConfig
from secateurs.learners.weights.ratios import dense_kernels


def pruned_kernels(kernels: Mapping[str, tf.Variable]) -> dict[str, tf.Variable]:
  """The kernels that are pruned: all but the smallest, as in weight-sparse."""
  sizes = {name: int(np.prod(kernel.shape)) for name, kernel in kernels.items()}
  dense = dense_kernels(sizes, WsConfig().dense_share)
  return {name: kernel for name, kernel in kernels.items() if name not in dense}


def allocate(
  site: Site, config: NuqlConfig, state: NuqlState, save: Callable[[], None]
) -> tuple[dict[str, int], dict[str, float]]:
  """Kept weights and quality factors by kernel name, from a scan that `state` receives."""
  scan = WsConfig(
    prune_ratio=config.prune_ratio,
    schedule='iterative',
    prune_ratio_prtl='sensitivity',
    scan='sigma',
    nb_smpls_scan=config.nb_smpls_scan,
  )
  kernels = site.prunable(site.model)
  sizes = {name: int(np.prod(kernel.shape)) for name, kernel in kernels.items()}
  kept = MeasuredAllocation(site, scan, state, save).by_sensitivity(sizes)
  return kept, {name: quality(kernels[name].numpy(), number) for name, number in kept.items()}


def quality(weights: np.ndarray, kept: int) -> float:
  """The threshold that leaves so many weights (of any shape), in standard deviations of the weights."""
  sizes = np.sort(np.abs(weights), axis=None)
  gone = sizes.size - kept
  threshold = float(sizes[gone - 1]) if gone else 0.0
  return threshold / max(float(weights.std()), 1e-30)
