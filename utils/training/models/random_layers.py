"""Layers that do something at random while they train."""

from __future__ import annotations

import tf_keras as keras

_RANDOM = ('Dropout', 'GaussianNoise', 'GaussianDropout', 'AlphaDropout')


def is_random(layer: keras.layers.Layer) -> bool:
  """Whether a layer does something at random while it trains, and nothing at other times."""
  names = [kind.__name__ for kind in type(layer).__mro__]
  augments = 'BaseRandomLayer' in names and names[0].startswith('Random')
  return augments or any(name in _RANDOM for name in names)


def draws(layer: keras.layers.Layer) -> bool:
  """The same, of stochastic depth and the operation tf.nn.dropout, too."""
  symbol = (getattr(layer, 'symbol', None) or '').split('.')[-1]
  return is_random(layer) or type(layer).__name__ == 'StochasticDepth' or symbol == 'dropout'
