"""Stacked LSTMs over the rows of images, as a functional tf_keras model."""

from __future__ import annotations

import dataclasses
import functools

import tf_keras as keras

from secateurs.nets.network import Network
from secateurs.utils.config import Config, option

L = keras.layers
_NB_ROWS = 8


@dataclasses.dataclass(frozen=True)
class LstmConfig(Config):
  """Stacked LSTM."""

  lstm_units: int = option(64, 'Units of each LSTM layer.', low=1)
  lstm_layers: int = option(2, 'LSTM layers, one on top of the other.', low=1)


def network(config: LstmConfig) -> Network:
  """The configured stack."""
  build = functools.partial(lstm, units=config.lstm_units, nb_layers=config.lstm_layers)
  return Network(f'lstm{config.lstm_layers}x{config.lstm_units}', build)


def lstm(
  input_shape: tuple[int, int, int] = (32, 32, 3),
  nb_classes: int = 10,
  *,
  units: int = 64,
  nb_layers: int = 2,
) -> keras.Model:
  """Builds stacked LSTMs that read an image row by row; outputs are logits [n, nb_classes].

  Rows are averages over squares of the image, eight from top to bottom.

  Args:
    input_shape: (height, width, channels); the sides are multiples of eight.
    nb_classes: number of logits.
    units: of each layer.
    nb_layers: how many there are.
  """
  height, width, _ = input_shape
  inputs = x = L.Input(input_shape, name='images')
  size = (height // _NB_ROWS, width // _NB_ROWS)
  x = L.AveragePooling2D(size, name='squares')(x)
  x = L.Reshape((_NB_ROWS, -1), name='rows')(x)
  for number in range(1, nb_layers + 1):
    x = L.LSTM(units, return_sequences=number < nb_layers, name=f'lstm{number}')(x)
  return keras.Model(inputs, L.Dense(nb_classes, name='logits')(x), name='lstm')
