"""LeNet-5 with ReLU and max pooling (LeCun et al. 1998), as a functional tf_keras model."""

from __future__ import annotations

import tf_keras as keras

from secateurs.nets.network import Network

L = keras.layers


def network() -> Network:
  """LeNet-5."""
  return Network('lenet', lenet)


def lenet(input_shape: tuple[int, int, int] = (32, 32, 3), nb_classes: int = 10) -> keras.Model:
  """Builds LeNet-5; outputs are logits [n, nb_classes].

  Deviations from the paper, as is common today: ReLU instead of tanh, max pooling instead of trainable
  average pooling, full connections between the convolutions, a linear last layer. An input of 32x32x3
  gives 62,006 parameters.
  """
  inputs = x = L.Input(input_shape, name='images')
  x = L.Conv2D(6, 5, name='conv1')(x)
  x = L.ReLU(name='relu1')(x)
  x = L.MaxPooling2D(2, name='pool1')(x)
  x = L.Conv2D(16, 5, name='conv2')(x)
  x = L.ReLU(name='relu2')(x)
  x = L.MaxPooling2D(2, name='pool2')(x)
  x = L.Flatten(name='flatten')(x)
  x = L.Dense(120, name='dense1')(x)
  x = L.ReLU(name='relu3')(x)
  x = L.Dense(84, name='dense2')(x)
  x = L.ReLU(name='relu4')(x)
  return keras.Model(inputs, L.Dense(nb_classes, name='logits')(x), name='lenet')
