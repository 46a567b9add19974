"""Runs learners from start to end; or one until a rank is killed; or each again behind that.

Words: a stage (whole, killed or resumed), then names of learners.
"""

import os
import signal

import jobs

from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop

NB_CALLS = 6


def train(name, runs):
  warm = None if name == 'full-prec' else str(folder / 'baseline' / 'models' / 'model.ckpt')
  learner = jobs.make(name, folder / runs / name, distributed.size(), warm=warm)
  result = learner.train()
  return {
    'checksum': jobs.checksum(learner),
    'kept': learner.state['algorithm'].get('kept'),
    'report': result.report,
    'bytes': result.files['keras'].read_bytes(),
  }


def die_in_a_while():
  """Lets rank 1 die like one that runs out of memory, between two of its steps."""
  run, calls = loop.TrainStep.run, []

  def run_or_die(self, batches, nb_steps):
    calls.append(nb_steps)
    if len(calls) > NB_CALLS and rank == 1:
      os.kill(os.getpid(), signal.SIGKILL)
    return run(self, batches, nb_steps)

  loop.TrainStep.run = run_or_die


folder, (stage, *names) = jobs.arguments()
distributed.start()
rank = distributed.rank()
if stage == 'whole':
  jobs.make('full-prec', folder / 'baseline', distributed.size()).train()
if stage == 'killed':
  die_in_a_while()
given = {name: train(name, 'whole' if stage == 'whole' else 'broken') for name in names}
jobs.give(folder, rank, given)
distributed.stop()
