"""Every collective call, and trainings whose losses are compared with those of one process."""

import os
import time

import jobs
import numpy as np
import tensorflow as tf

from secateurs.learners.run import measuring
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed

COMPRESSED = {}


def means(compression):
  @tf.function
  def steps(value):
    for _ in range(3):
      value, ones = distributed.mean(
        [value * (rank + 1.0), tf.fill([2, 3], 1.0 + rank)], compression
      )
    return value, ones

  return [t.numpy() for t in steps(tf.linspace(-1.0, 1.0, 7))]


def message(function):
  try:
    function()
  except UserError as error:
    return str(error)
  return None


def refuse():
  raise UserError('The chief has no data.')


def losses(name, net, **options):
  learner = jobs.make(name, folder / f'{name}-{net}', distributed.size(), net=net, **options)
  learner.run_phases(until=learner.phases()[-2].name)
  return learner


folder, _ = jobs.arguments()
distributed.start()
rank = distributed.rank()
given = {
  'launched': 'HOROVOD_RANK' in os.environ,
  'shard': distributed.shard(),
  'threads': tf.config.threading.get_intra_op_parallelism_threads(),
  'sum': distributed.sum(np.arange(4.0).reshape(2, 2) * (rank + 1), np.int64(2**40 + rank), 0.5),
  'object': distributed.broadcast_object({'rank': rank}),
  'objects': distributed.gather_objects('x' * rank),
  'chief': distributed.from_chief(lambda: (distributed.rank(), distributed.size())),
  'refused': message(lambda: distributed.from_chief(refuse)),
  'disagreement': message(lambda: distributed.require_agreement({'--seed': rank, 'net': 'lenet'})),
  'different flags': message(
    jobs.make('full-prec', folder / 'never', 2, momentum=0.9 - 0.1 * rank).train
  ),
  'agreement': message(lambda: distributed.require_agreement({'--seed': 0})),
}
variables = [tf.Variable([1.0, 5.0 * rank]), tf.Variable([rank], dtype=tf.int64)]
distributed.mean_variables(variables, weight=1.0 + 2 * rank)
given['mean_variables'] = [v.numpy() for v in variables]
distributed.broadcast_variables(variables)
given['broadcast'] = variables[1].numpy()
given['means'] = {how: means(how) for how in distributed.COMPRESSIONS}
moments = [0.0, 0.0]


def note(index):
  moments[index] = time.monotonic()
  time.sleep(0.2)


distributed.first_on_host(lambda: note(0))
given['first_on_host'] = moments[0]
only = folder / 'only-the-chief-has-it.txt'
if rank == 0:
  only.write_text('content')
with distributed.chiefs_file(only) as path:
  given['file'] = (path == only, path.read_text())

for name, net in (('full-prec', 'lenet'), ('weight-sparse', 'lenet'), ('full-prec', 'frozen')):
  given[name, net] = jobs.checksum(losses(name, net))
learner = losses('full-prec', 'moving', grad_compression='fp16')
given['full-prec', 'moving'] = jobs.checksum(learner)
given['evaluation'] = measuring.evaluate_model(learner.model, learner.helper, learner.run_config)
with distributed.alone():
  given['evaluation alone'] = measuring.evaluate_model(
    learner.model, learner.helper, learner.run_config
  )
jobs.give(folder, rank, given)
distributed.stop()
