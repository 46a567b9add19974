"""What the ranks of the tests' jobs run, and the tests themselves as the single process beside."""

import pickle
import sys
import zlib
from pathlib import Path

import tf_keras as keras

from secateurs.learners import get_learner
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.nets.datasets.images import DataConfig
from secateurs.nets.model_helper import LENET_AT_DIGITS, ModelHelper

L = keras.layers
NB_STEPS = 20
# What of a learner's configuration makes it short; others run with their defaults.
SHORT = {
  'chn-pruned': {'nb_batches': 5, 'finetune': True, 'list_group': 1, 'compare': False},
  'dis-chn-pruned': {
    'prune_option': 'auto',
    'nb_stages': 1,
    'nb_iters_block': 12,
    'nb_iters_layer': 2,
    'nb_smpls_layer': 128,
    'nb_batches_score': 1,
    'chns_per_step': 40,
  },
}


def small_net(frozen):
  """A network with batch normalisation, frozen or not, and more variables than LeNet."""
  inputs = L.Input((32, 32, 3))
  x = inputs
  for number, width in enumerate((8, 12, 16)):
    x = L.Conv2D(width, 3, strides=2, use_bias=False, name=f'conv{number}')(x)
    x = L.ReLU()(L.BatchNormalization(name=f'bn{number}', trainable=not frozen)(x))
  return keras.Model(inputs, L.Dense(10, name='logits')(L.Flatten()(x)))


def make(name, folder, nb_ranks, *, net='lenet', batch_size=32, save_step=7, warm=None, **training):
  """A learner whose job of `nb_ranks` takes `NB_STEPS` steps of `batch_size` each."""
  helper = LENET_AT_DIGITS.make(DataConfig())
  if net != 'lenet':
    helper = ModelHelper(net, lambda: small_net(net == 'frozen'), helper.dataset, helper.recipe)
  epochs = NB_STEPS * batch_size * nb_ranks / helper.nb_samples('train') / helper.recipe.nb_epochs
  cls = get_learner(name)
  run = {'summ_step': 1, 'save_step': save_step, 'bench_frames': 5, 'bench_threads': '1'}
  run['warm_start_path'] = warm
  return cls(
    helper,
    cls.Config(**SHORT.get(name, {})),
    run=RunConfig(run_dir=str(folder), **run),
    training=TrainConfig(nb_epochs_rat=epochs, batch_size=batch_size, **training),
  )


def checksum(learner):
  """CRC-32 of all variables of a learner, masks included."""
  crc = 0
  for variable in [*learner.model.weights, *learner.extra_variables().values()]:
    crc = zlib.crc32(variable.numpy().tobytes(), crc)
  return crc


def give(folder, rank, value):
  """Hands a rank's results to the test."""
  (Path(folder) / f'rank{rank}.pkl').write_bytes(pickle.dumps(value))


def arguments():
  """The folder of results, and further words."""
  return Path(sys.argv[1]), sys.argv[2:]
