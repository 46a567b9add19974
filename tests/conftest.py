"""Shared set-up: TensorFlow without its start-up messages, small data sets, where real data lies."""

import collections
import os
from pathlib import Path

import pytest
import slow_tests
from record_files import write_shards

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()


@pytest.fixture(scope='session', autouse=True)
def _own_cache(tmp_path_factory):
  """What the project keeps for later runs stays out of the user's folder."""
  patch = pytest.MonkeyPatch()
  patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
  yield
  patch.undo()


def pytest_addoption(parser):
  parser.addoption(
    '--exhaustive', action='store_true', help='run all of the tests that are alike, too'
  )
  parser.addoption(
    '--store-slow',
    type=float,
    metavar='SECONDS',
    help='write what takes so long to slow_tests.txt',
  )


def pytest_configure(config):
  """Measures where that was asked for; workers report to the process that started them."""
  seconds = config.getoption('--store-slow')
  if seconds is not None and not hasattr(config, 'workerinput'):
    config.pluginmanager.register(slow_tests.Store(seconds))


@pytest.hookimpl(tryfirst=True)  # Before -m selects by marks.
def pytest_collection_modifyitems(config, items):
  """Leaves out what only --exhaustive runs, marks slow tests, and starts with files of many."""
  slow_ones = slow_tests.stored()
  for item in items:
    if slow_tests.short(item.nodeid) in slow_ones:
      item.add_marker('slow')
  if not config.getoption('--exhaustive'):
    left_out = [item for item in items if item.get_closest_marker('exhaustive')]
    if left_out:
      config.hook.pytest_deselected(items=left_out)
      items[:] = [item for item in items if not item.get_closest_marker('exhaustive')]
  slow = [item.path for item in items if item.get_closest_marker('slow') is not None]
  counts = collections.Counter(slow)
  items.sort(key=lambda item: -counts[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  """Gives files to parallel workers; all that ask about one job of several processes to the same."""
  from xdist.scheduler import LoadFileScheduling

  class Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid):
      path = nodeid.split('::', 1)[0]
      folder = path.rpartition('/')[0]
      return folder if folder.endswith('distributed') else path

  return Scheduling(config, log)


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


@pytest.fixture(scope='session')
def ilsvrc12_sample() -> Path:
  """The folder of some real ILSVRC-12 records, from SECATEURS_TEST_ILSVRC12."""
  folder = os.environ.get('SECATEURS_TEST_ILSVRC12')
  if not folder:
    pytest.skip('SECATEURS_TEST_ILSVRC12 names no folder with train-*-of-* and validation-*-of-*')
  return Path(folder)


@pytest.fixture(scope='session')
def tiny_ilsvrc12(tmp_path_factory) -> Path:
  """Shards of small JPEG images in four colours, which are their labels 1, 2, 999 and 1000."""
  folder = tmp_path_factory.mktemp('ilsvrc12')
  write_shards(folder, 'train', nb_shards=4, nb_images=66)
  write_shards(folder, 'validation', nb_shards=2, nb_images=20, seed=1)
  return folder
