"""Every collective call, and trainings whose losses are compared with those of one process."""

import functools
import os
import time

import jobs
import numpy as np
import tensorflow as tf

from secateurs.learners.run.results import measuring
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.regression import Regression
from secateurs.utils.training.tasks.segmentation import Segmentation
from secateurs.utils.training.tasks.sigmoids import Binary, MultiLabel


def collectives(folder):
  """What each call gives on this rank, by name."""
  rank = distributed.rank()
  return {
    'launched': 'HOROVOD_RANK' in os.environ,
    'shard': distributed.shard(),
    'threads': tf.config.threading.get_intra_op_parallelism_threads(),
    'sum': distributed.sum(np.arange(4.0).reshape(2, 2) * (rank + 1), np.int64(2**40 + rank), 0.5),
    'object': distributed.broadcast_object({'rank': rank}),
    'objects': distributed.gather_objects('x' * rank),
    'chief': distributed.from_chief(lambda: (distributed.rank(), distributed.size())),
    'refused': message(lambda: distributed.from_chief(refuse)),
    'disagreement': message(
      lambda: distributed.require_agreement({'--seed': rank, 'net': 'lenet'})
    ),
    'different flags': message(
      jobs.make('full-prec', folder / 'never', 2, momentum=0.9 - 0.1 * rank).train
    ),
    'agreement': message(lambda: distributed.require_agreement({'--seed': 0})),
    **of_variables(rank),
    'means': {how: means(how, rank) for how in distributed.COMPRESSIONS},
    'first_on_host': first_on_host(),
    'file': chiefs_file(folder, rank),
    'hooks': jobs.train_with_hooks(),
    'tasks': of_tasks(rank),
    **trainings(folder),
  }


def message(function):
  try:
    function()
  except UserError as error:
    return str(error)
  return None


def refuse():
  raise UserError('The chief has no data.')


def of_variables(rank):
  variables = [tf.Variable([1.0, 5.0 * rank]), tf.Variable([rank], dtype=tf.int64)]
  distributed.mean_variables(variables, weight=1.0 + 2 * rank)
  averaged = [v.numpy() for v in variables]
  distributed.broadcast_variables(variables)
  return {'mean_variables': averaged, 'broadcast': variables[1].numpy()}


def means(compression, rank):
  @tf.function
  def steps(value):
    for _ in range(3):
      value, ones = distributed.mean(
        [value * (rank + 1.0), tf.fill([2, 3], 1.0 + rank)], compression
      )
    return value, ones

  return [t.numpy() for t in steps(tf.linspace(-1.0, 1.0, 7))]


def first_on_host():
  """The moment at which this rank began what takes a while."""

  def note():
    moment = time.monotonic()
    time.sleep(0.2)
    return moment

  return distributed.first_on_host(note)


def chiefs_file(folder, rank):
  only = folder / 'only-the-chief-has-it.txt'
  if rank == 0:
    only.parent.mkdir(parents=True, exist_ok=True)
    only.write_text('content')
  with distributed.chiefs_file(only) as path:
    return path == only, path.read_text()


def of_tasks(rank):
  """Evaluations of each task: of parts that differ in size, and of all samples by one process."""
  rng, given = np.random.default_rng(0), {}
  for task in (Binary((1,)), MultiLabel((3,)), Regression((2,)), Segmentation((4, 4, 3))):
    outputs = rng.normal(size=(17, *task.shape)).astype(np.float32)
    if task.name == 'regression':
      targets = rng.normal(size=(17, 2)).astype(np.float32)
    elif task.name == 'segmentation':
      targets = rng.integers(0, 3, (17, 4, 4)).astype(np.int32)
    else:
      targets = rng.integers(0, 2, outputs.shape).astype(np.float32)
    parts = [(outputs[at], targets[at]) for at in (slice(0, 6), slice(6, 11), slice(11, 17))]
    mine = parts[:2] if rank == 0 else parts[2:]
    given[task.name] = (
      evaluate_function(lambda x: x, mine, task),
      evaluate_function(lambda x: x, parts, task, alone=True),
    )
  return given


def trainings(folder):
  """Checksums of trained learners by (name, network), and evaluations of the last."""
  given = {}

  def train(name, net, **options):
    learner = jobs.make(name, folder / f'{name}-{net}', distributed.size(), net=net, **options)
    learner.run_phases(until={'full-prec': 'train', 'weight-sparse': 'sparsify'}[name])
    given[name, net] = jobs.checksum(learner)
    return learner

  for name, net in (('full-prec', 'lenet'), ('weight-sparse', 'lenet'), ('full-prec', 'frozen')):
    train(name, net)
  learner = train('full-prec', 'moving', grad_compression='fp16')
  evaluation = functools.partial(
    measuring.evaluate_model, learner.model, learner.helper, learner.settings.run
  )
  given['evaluation'] = evaluation()
  with distributed.alone():
    given['evaluation alone'] = evaluation()
  return given
