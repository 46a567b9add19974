"""What the ranks of the tests' jobs run, and the tests themselves as the single process beside."""

import zlib

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import get_learner
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.experiments import LENET_AT_DIGITS
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.hooks import WeightDecay
from secateurs.utils.training.engine.masks import Masks

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
  'joint-search': {'max_drop': 0.05},
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
  held_out = -1 if name == 'joint-search' else 0  # A search judges on samples that train nothing.
  helper = LENET_AT_DIGITS.make(DataConfig(nb_smpls_val=held_out))
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


class _Squares:
  """||x w - y||^2 / n."""

  metric_names = ()

  def __init__(self, weights):
    self._weights = weights

  def __call__(self, batch):
    x, y = batch
    return tf.reduce_mean((tf.linalg.matvec(x, self._weights) - y) ** 2), {}


class _SoftThreshold:
  """A proximal step."""

  def __init__(self, weights):
    self._weights = weights

  def apply(self, learning_rate):
    sizes = tf.nn.relu(tf.abs(self._weights) - 0.5 * learning_rate)
    self._weights.assign(tf.sign(self._weights) * sizes)


def train_with_hooks():
  """A training with penalty, constraints and an event, on this rank's half of each batch's samples.

  Returns:
    The weights after each step.
  """
  rank, size = distributed.shard()
  rng = np.random.default_rng(0)
  x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((10, 8, 6), (10, 8)))
  weights = tf.Variable(tf.ones(6))
  masks = Masks([weights])
  step = loop.TrainStep(
    _Squares(weights),
    [weights],
    keras.optimizers.SGD(0.05, momentum=0.9, jit_compile=False),
    penalties=[WeightDecay(0.1, [weights])],
    constraints=[_SoftThreshold(weights), masks],
  )
  seen = []
  events = [
    loop.Event(
      lambda done, means: masks.masks[0].assign(np.float32(np.arange(6) >= done // 5)), every=5
    ),
    loop.Event(lambda done, means: seen.append(weights.numpy()), every=1),
  ]
  batches = tf.data.Dataset.from_tensor_slices((x[:, rank::size], y[:, rank::size]))
  loop.run(step, batches, start=0, stop=10, phase='fit', events=events)
  return seen


def checksum(learner):
  """CRC-32 of all variables of a learner, masks included."""
  crc = 0
  for variable in [*learner.model.weights, *learner.extra_variables().values()]:
    crc = zlib.crc32(variable.numpy().tobytes(), crc)
  return crc
