"""docs/changed_flags.md: each flag against each state of a run's folder, on copies of one tiny run."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest

from secateurs.learners.run.baseline import has_baseline
from secateurs.learners.run.preflight import lock
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine import loop

PAGE = Path(__file__).parents[4] / 'docs' / 'changed_flags.md'
TRAINING = {'nb_epochs_ft': 0.5}
QAT = {'enbl_qat': True, 'nb_epochs_qat': 0.5}
OPTIONS = {
  'the same flags': {},
  '--export_int8': {'run': {'export_int8': True}},
  '--enbl_qat': {'quantization': QAT},
  '--save_step 7': {'run': {'save_step': 7}},
  '--nb_smpls_calib 50': {'run': {'nb_smpls_calib': 50}},
  '--ws_prune_ratio 0.8': {'prune_ratio': 0.8},
  '--nb_epochs_ft 2': {'training': {'nb_epochs_ft': 2.0}},
  '--seed 1': {'run': {'seed': 1}},
  '--enbl_dst': {'distillation': {'enbl_dst': True}},
  '--nokeep_zeros': {'training': {'keep_zeros': False}},
  '--learner chn-pruned': {'name': 'chn-pruned'},
  '--learner full-prec': {'name': 'full-prec'},
  'a file of models_ws_eval was deleted': {'delete': 'models_ws_eval/model.tflite'},
  "the original's .keras was deleted": {'delete': 'models_ws/original.keras'},
  'without --enbl_qat': {'quantization': {}},
  '--nb_epochs_qat 2': {'quantization': {**QAT, 'nb_epochs_qat': 2.0}},
}
STATES = ('not begun', 'baseline made', 'stopped in `sparsify`', 'finished')


class Killed(BaseException):
  """Stands for a kill."""


def tables():
  """Rows (with QAT, what is given, state, outcome) of the page."""
  for number, part in enumerate(PAGE.read_text(encoding='utf-8').split('\n## ')[1:]):
    rows = [
      [cell.strip() for cell in line.strip('| \n').split('|')]
      for line in part.splitlines()
      if line.startswith('|') and not line.startswith('|--')
    ]
    _, *states = rows[0]
    for given, *outcomes in rows[1:]:
      for state, outcome in zip(states, outcomes, strict=True):
        yield bool(number), given.replace('`', ''), state, outcome


@pytest.fixture(scope='module')
def states(tmp_path_factory, make_in):
  """Folders by (with QAT, state)."""
  root, folders = tmp_path_factory.mktemp('states'), {}

  def keep(qat, state):
    folders[qat, state] = root / re.sub(r'\W', '_', f'{state} {qat}')
    if (root / 'run').is_dir():
      shutil.copytree(root / 'run', folders[qat, state])

  def work(phase, options):
    """Trains until a phase has made a checkpoint inside itself."""
    learner = make_in(
      root / 'run', 'weight-sparse', run={'save_step': 1}, training=TRAINING, **options
    )
    run, steps = loop.TrainStep.run, []

    def die(self, batches, nb_steps):
      if learner.session.times._clocks and phase in learner.session.times._clocks:
        steps.append(nb_steps)
        if len(steps) > 2:
          raise Killed
      return run(self, batches, nb_steps)

    with pytest.MonkeyPatch.context() as patch:
      if phase is not None:
        patch.setattr(loop.TrainStep, 'run', die)
      with contextlib.suppress(Killed), contextlib.redirect_stdout(io.StringIO()):
        learner.train()

  keep(False, 'not begun')
  learner = make_in(root / 'run', 'weight-sparse', training=TRAINING)
  with contextlib.redirect_stdout(io.StringIO()):
    learner.run_phases(until='baseline')
  lock.release(learner.files.save_path.parent)
  keep(False, 'baseline made')
  work('sparsify', {})
  keep(False, 'stopped in `sparsify`')
  work(None, {})
  keep(False, 'finished')
  work('qat', {'quantization': QAT})
  keep(True, 'stopped in `qat`')
  work(None, {'quantization': QAT})
  keep(True, 'finished')
  return folders


def outcome(learner):
  """What would be done, in the words of the page."""
  try:
    learner.resume()
    learner.reopen()
  except UserError as error:
    named = 'give the flags of that run to resume it, --restart compression to' in str(error)
    return 'refused' if named else str(error)
  finally:
    lock.release(learner.files.save_path.parent)
  session = learner.session
  left = [phase for phase in learner.phases() if not session.is_done(phase.name)]
  if not left:
    return 'nothing to do'
  if session.saved is None:
    known = has_baseline(learner.settings, learner.baseline_config)
    assert left[0].nb_steps == 0 or not known
    return 'begins, same baseline' if known else 'begins'
  if session.state.phase == left[0].name and session.state.step:
    return 'resumes'
  return f'from `{left[0].name}`'


def test_each_flag_in_each_state_does_what_the_page_says(states, make_in, tmp_path, capsys):
  wrong, rows = [], list(tables())
  assert len(rows) > 60
  for number, (qat, given, state, expected) in enumerate(rows):
    folder = tmp_path / str(number)
    if states[qat, state].is_dir():
      shutil.copytree(states[qat, state], folder)
    flags, _, restart = given.partition(' --restart ')
    options = {'name': 'weight-sparse', **OPTIONS[flags]}
    deleted = folder / options.pop('delete', 'nothing')
    deleted.unlink(missing_ok=True)
    options['run'] = {**options.get('run', {}), 'restart': restart or 'none'}
    options['training'] = {**TRAINING, **options.get('training', {})}
    options.setdefault('quantization', QAT if qat else {})
    learner = make_in(folder, options.pop('name'), **options)
    if learner.is_original:
      learner.baseline_config = learner.config
    found = outcome(learner)
    if found != expected:
      wrong.append((given, state, expected, found))
    shutil.rmtree(folder, ignore_errors=True)
  capsys.readouterr()
  assert wrong == []


def test_a_last_phase_that_fails_is_left_out(states, make_in, tmp_path):
  """What the way out of a row gives: a finished run without the phase."""
  shutil.copytree(states[True, 'stopped in `qat`'], tmp_path / 'run')
  result = make_in(tmp_path / 'run', 'weight-sparse', training=TRAINING).train()
  assert 'int8' not in result.report['compressed']
  assert result.report['compressed']['score']
