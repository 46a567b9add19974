"""Shared set-up: TensorFlow without its start-up messages, small data sets, where real data lies."""

import os
from pathlib import Path

import pytest

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()


@pytest.fixture(scope='session')
def cifar10_folder() -> Path:
  """The folder of real CIFAR-10, from SECATEURS_TEST_CIFAR10."""
  folder = os.environ.get('SECATEURS_TEST_CIFAR10')
  if not folder:
    pytest.skip('SECATEURS_TEST_CIFAR10 names no folder with CIFAR-10')
  return Path(folder)


@pytest.fixture(scope='session')
def trained_weights() -> Path:
  """The folder of trained CIFAR ResNets as .npz, from SECATEURS_TEST_WEIGHTS."""
  folder = os.environ.get('SECATEURS_TEST_WEIGHTS')
  if not folder:
    pytest.skip('SECATEURS_TEST_WEIGHTS names no folder with resnet*_cifar10.npz')
  return Path(folder)
