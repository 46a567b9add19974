"""Short runs of learners on handwritten digits."""

import contextlib
import io
import sys
from pathlib import Path

import pytest

from secateurs.learners import get_learner
from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.experiments import LENET_AT_DIGITS

sys.path.insert(0, str(Path(__file__).parent))  # Networks that several tests share.


_SHORT = {'joint-search': {'nb_tries': 2, 'max_drop': 0.05}}


@pytest.fixture(scope='session')
def helper():
  return LENET_AT_DIGITS.make(DataConfig())


@pytest.fixture(scope='session')
def held_out():
  """The same with a fifth of the training samples held out, as searches need it."""
  return LENET_AT_DIGITS.make(DataConfig(nb_smpls_val=-1))


@pytest.fixture(scope='session')
def make_in(helper, held_out):
  """Makes a learner whose runs are short and whose files lie in a given folder."""
  usual = helper

  def make_learner(
    folder,
    name,
    *,
    run=None,
    training=None,
    distillation=None,
    quantization=None,
    method=None,
    helper=None,
    **config,
  ):
    cls = get_learner(name)
    config = {**_SHORT.get(name, {}), **config}
    run = {'summ_step': 10, 'save_step': 10, 'bench_frames': 5, 'bench_threads': '1'} | (run or {})
    training = {'nb_epochs_rat': 0.05} | (training or {})
    return cls(
      helper or (held_out if name == 'joint-search' else usual),
      cls.Config(**config),
      run=RunConfig(run_dir=str(folder), **run),
      training=TrainConfig(**training),
      distillation=DistillConfig(**(distillation or {})),
      quantization=QuantConfig(**(quantization or {})),
      method=method,
    )

  return make_learner


@pytest.fixture
def make(tmp_path, make_in):
  """The same in a folder of the test."""
  return lambda name, folder='run', **options: make_in(tmp_path / folder, name, **options)


@pytest.fixture(scope='session')
def baseline(tmp_path_factory, helper):
  """Checkpoint prefix of a baseline that is trained once for all tests."""
  folder = tmp_path_factory.mktemp('baseline')
  learner = get_learner('full-prec')(
    helper,
    run=RunConfig(run_dir=str(folder), bench_frames=5, bench_threads='1'),
    training=TrainConfig(nb_epochs_rat=0.25),
  )
  with contextlib.redirect_stdout(io.StringIO()):
    learner.run_phases(until='train')
  return str(folder / 'models' / 'model.ckpt')


@pytest.fixture(scope='session')
def residual(helper):
  """A small residual network on the digits."""
  from networks import digits_net

  return type(helper)('digits_net', digits_net, helper.dataset, helper.recipe)


@pytest.fixture(scope='session')
def residual_weights(tmp_path_factory, residual):
  """Checkpoint prefix of its baseline."""
  folder = tmp_path_factory.mktemp('residual')
  run = RunConfig(run_dir=str(folder), bench_frames=5, bench_threads='1')
  learner = get_learner('full-prec')(residual, run=run, training=TrainConfig(nb_epochs_rat=0.15))
  with contextlib.redirect_stdout(io.StringIO()):
    learner.run_phases(until='train')
  return str(folder / 'models' / 'model.ckpt')
