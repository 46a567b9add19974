"""Learners from start to end; or stopped in the middle of a training; or going on with it.

In stage `stopped` both ranks hear Ctrl-C before the same step of each learner but the last, in whose
training rank 1 is killed, and with it the job. RANKS_LEARNERS names the learners.
"""

import os
import signal

import jobs

from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop

NB_CALLS, SAVE_STEP = 5, 3  # There is a checkpoint inside the training, if that is long enough.
NAMES = os.environ.get('RANKS_LEARNERS', '').split()
AVERAGED = ('uniform-quant', 'weight-sparse')


def whole(folder):
  jobs.make('full-prec', folder / 'baseline', distributed.size()).train()
  return {name: train(folder, name, 'whole') for name in NAMES}


def stopped(folder):
  run = loop.TrainStep.run
  for name in NAMES:
    stop_in_a_while(run, die if name == NAMES[-1] else hear_ctrl_c)
    try:
      train(folder, name, 'broken')
    except KeyboardInterrupt:
      (folder / f'{name}-stopped-on-{distributed.rank()}').touch()


def resumed(folder):
  return {name: train(folder, name, 'broken') for name in NAMES}


def train(folder, name, runs):
  warm = None if name == 'full-prec' else str(folder / 'baseline' / 'models' / 'model.ckpt')
  averages = {'average_ft': 'swa'} if name in AVERAGED else {}
  learner = jobs.make(
    name, folder / runs / name, distributed.size(), save_step=SAVE_STEP, warm=warm, **averages
  )
  result = learner.train()
  return {
    'checksum': jobs.checksum(learner),
    'kept': getattr(learner.state, 'kept', None),
    'report': result.report,
    'bytes': result.files['keras'].read_bytes(),
  }


def stop_in_a_while(run, how):
  """Calls a function instead of the step after `NB_CALLS` further ones."""
  calls = []

  def run_or_stop(self, batches, nb_steps):
    assert nb_steps == 1, 'ranks whose calls differ in length do not stop at the same step'
    calls.append(nb_steps)
    if len(calls) > NB_CALLS:
      how()
    return run(self, batches, nb_steps)

  loop.TrainStep.run = run_or_stop


def hear_ctrl_c():
  raise KeyboardInterrupt


def die():
  """Like a process that runs out of memory."""
  if distributed.rank() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
