"""Scores of the channels that layers read or make, from what the network makes of images."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.errors import UserError
from secateurs.utils.graph.choice.taps import INPUT, Loss, Probe, Side
from secateurs.utils.graph.groups.channel_graph import ChannelGraph


def nonzero_share(activations: np.ndarray) -> np.ndarray:
  """Share of values above zero in each channel, in [0, 1]; 1 - APoZ of Hu et al. 2016.

  Args:
    activations: float array [samples, positions, channels].
  """
  return (activations > 0).mean(axis=(0, 1))


def taylor(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
  """|sum over the map of activation * derivative|, averaged over samples (Molchanov et al. 2017).

  Args:
    activations: float array [samples, positions, channels].
    gradients: the loss's derivative by them, same shape.
  """
  return np.abs((activations * gradients).sum(axis=1)).mean(axis=0)


def histogram(pooled: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int) -> np.ndarray:
  """Counts of each channel's values, int array [channels, bins].

  Args:
    pooled: float array [samples, channels].
    low: the lower end of each channel's first bin, [channels].
    high: the upper end of its last one; what lies outside counts to the nearest bin.
    bins: their number.
  """
  nb_channels = pooled.shape[1]
  width = np.where(high > low, high - low, 1.0)
  place = np.clip((pooled - low) / width * bins, 0, bins - 1).astype(int)
  flat = (place + bins * np.arange(nb_channels)).ravel()
  return np.bincount(flat, minlength=nb_channels * bins).reshape(nb_channels, bins)


def entropy(counts: np.ndarray) -> np.ndarray:
  """Entropy in nats of each channel's histogram over the samples (Luo & Wu 2017).

  Args:
    counts: int array [channels, bins], of activations averaged over the map.
  """
  shares = counts / counts.sum(axis=1, keepdims=True)
  return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)


def activation_scores(
  graph: ChannelGraph,
  kind: str,
  batches: Iterable[Any],
  loss: Loss | None = None,
  bins: int = 100,
  side: Side = INPUT,
  layers: Collection[str] | None = None,
  additions: bool = True,
) -> dict[Any, np.ndarray]:
  """Scores the input channels of every consuming layer on data, for `channel_scores`.

  Every sample counts alike, whatever the sizes of the batches.

  Args:
    graph: the channel graph.
    kind: 'nonzero_share', 'entropy' or 'derivative'.
    batches: images [batch, ...], or pairs (images, labels) for 'derivative'; read twice for
      'entropy', first for each channel's least and largest value.
    loss: for 'derivative', a function (labels, outputs) -> mean loss.
    bins: for 'entropy', how many lie between these two values.
    side: what is looked at: 'input', what layers read; 'output', what layers make, after the
      normalisation and activation that follow (see `taps`).
    layers: names of the layers; default: all.
    additions: for 'output', whether what layers make is looked at after additions, too.

  Returns:
    (layer name, 'input') -> float array [input channels]; or layer name -> [output channels].

  Raises:
    UserError: for an unknown kind, a missing loss, no batches, or an iterator for 'entropy'.
  """
  if kind not in ('nonzero_share', 'entropy', 'derivative'):
    raise UserError(f"Unknown kind {kind!r}, expected 'nonzero_share', 'entropy' or 'derivative'.")
  if kind == 'derivative' and loss is None:
    raise UserError("Kind 'derivative' needs a loss(labels, outputs), got none.")
  if kind == 'entropy' and iter(batches) is batches:
    raise UserError(
      "Kind 'entropy' reads the batches twice, got an iterator, which ends after once: give a "
      'list or a tf.data.Dataset.'
    )
  probe = Probe(graph, side, layers, additions=additions)
  if kind == 'entropy':
    scores = _entropies(probe, batches, bins)
  else:
    scores = _means(probe, batches, loss if kind == 'derivative' else None)
  if not scores:
    raise UserError('Scoring on data got no batches, expected at least one.')
  return {(n, 'input') if side == INPUT else n: values for n, values in scores.items()}


def _means(probe: Probe, batches: Iterable[Any], loss: Loss | None) -> dict[str, np.ndarray]:
  """Means over the samples: of derivatives if there is a loss, else of shares above zero."""
  sums: dict[str, Any] = {}
  nb_samples = 0
  for batch in batches:
    size = nested.size(_images(batch))
    if loss is None:
      parts = ((name, nonzero_share(maps)) for name, maps in probe.maps(_images(batch)))
    else:
      # The loss is a mean: a sample's own derivative is `size` times the batch's.
      parts = ((n, size * taylor(*both)) for n, *both in probe.maps_and_gradients(batch, loss))
    for name, part in parts:
      sums[name] = sums.get(name, 0) + size * part
    nb_samples += size
  return {name: total / nb_samples for name, total in sums.items()}


def _entropies(probe: Probe, batches: Iterable[Any], bins: int) -> dict[str, np.ndarray]:
  ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
  for batch in batches:
    for name, maps in probe.maps(_images(batch)):
      pooled = maps.mean(axis=1)
      low, high = ends.get(name, (np.inf, -np.inf))
      ends[name] = np.minimum(pooled.min(axis=0), low), np.maximum(pooled.max(axis=0), high)
  counts: dict[str, Any] = {}
  for batch in batches:
    for name, maps in probe.maps(_images(batch)):
      counts[name] = counts.get(name, 0) + histogram(maps.mean(axis=1), *ends[name], bins)
  return {name: entropy(count) for name, count in counts.items()}


def _images(batch: Any) -> Any:
  return batch[0] if isinstance(batch, (tuple, list)) else batch
