"""--dry_run: what it says a run will do is what the run does."""

import re

import pytest

from secateurs.learners.run.preflight import dry_run
from secateurs.learners.run.preflight.work import Work
from secateurs.learners.run.results import latencies, measuring


@pytest.fixture
def done(monkeypatch, tmp_path):
  """What a run evaluates, exports and times, counted while it runs."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))  # No files of an earlier run.
  found = dict.fromkeys(('evaluations', 'exports', 'timed'), 0)

  def count(function, name, number=lambda *args: 1, module=measuring):
    original = getattr(module, function)

    def counted(*args, **kwargs):
      found[name] += number(*args)
      return original(*args, **kwargs)

    monkeypatch.setattr(module, function, counted)

  count('evaluate_model', 'evaluations')
  count('evaluate_tflite', 'evaluations')
  count('export_model', 'exports')
  count('timed_files', 'timed', lambda paths, run, further: len(paths), latencies)
  return found


@pytest.mark.parametrize(
  'learner',
  ['chn-pruned', 'weight-sparse', pytest.param('uniform-quant', marks=pytest.mark.exhaustive)],
)
def test_a_run_does_what_was_counted_before(make, baseline, helper, done, learner):
  if learner == 'uniform-quant':
    pytest.importorskip('ai_edge_quantizer')
  learner = make(
    learner,
    run={'warm_start_path': baseline, 'export_int8': True},
    training={'nb_epochs_ft': 0.1, 'bn_reestimate': False},
  )
  learner.resume()
  work = {phase.name: learner.work_of(phase.name) for phase in learner.phases()}
  refit = work.pop('prune', Work()).nb_images
  assert (refit > 0) == (learner.name == 'chn-pruned')
  total = sum(work.values(), Work())
  learner.train()
  assert total.nb_images == done['evaluations'] * helper.nb_samples('eval')
  assert (total.nb_exports, total.nb_timed) == (done['exports'], done['timed'])


def test_the_sum_by_hand(make, baseline, helper, monkeypatch, capsys):
  monkeypatch.setattr(dry_run, '_seconds_a_step', lambda *args: 60.0)
  monkeypatch.setattr(dry_run, '_seconds_an_image', lambda *args: 0.01)
  monkeypatch.setattr(dry_run, 'exporting_seconds', lambda work, megabytes: 7.0 * work.nb_exports)
  learner = make(
    'weight-sparse',
    run={'warm_start_path': baseline},
    training={'nb_epochs_ft': 0.2, 'nb_epochs_rat': 1.0, 'bn_reestimate': False},
  )
  seconds = learner.dry_run()
  nb_steps, nb_images = learner.rates.fine_tune_steps(), 2 * helper.nb_samples('eval')
  assert nb_steps
  # The original's file, the result's and its sparse one, each for 5 frames of 20 ms at most.
  assert seconds == pytest.approx(60 * nb_steps + 0.01 * nb_images + 2 * 7 + 3 * 5 * 0.02)
  out = capsys.readouterr().out
  assert f'about {nb_steps} min 00 s for the {nb_steps} training steps.' in out
  assert f'for {nb_images} images that evaluate, judge or refit.' in out
  assert 'Exporting 2 networks: about 14 s, at an assumed speed.' in out
  assert 'Timing 3 files: at the most 0 s.' in out
  assert re.search(r'^Together about .+\. Left out: .+, and devices\.$', out, re.MULTILINE)


def test_images_that_channels_are_chosen_by(make, baseline, helper):
  run = {'warm_start_path': baseline}
  scan = make('chn-pruned', run=run, prune_option='auto')
  search = make('chn-pruned', 'search', run=run, prune_option='auto', nb_rlouts=3)
  taylor = make('filter-pruned', 'taylor', run=run, criterion='taylor', repair='none')
  plain = make('filter-pruned', 'plain', run=run, criterion='l1', repair='none')
  pressed = make('reg-pruned', 'p', run=run, penalty='group_lasso', prune_option='auto')
  for learner in (scan, search, taylor, plain, pressed):
    learner.resume()
  alone = scan.work_of('allocate').nb_images
  assert alone
  assert alone % 500 == 0
  judged = search.work_of('allocate').nb_images - alone
  assert judged == 3 * helper.nb_samples('train')  # Fewer than the 2000 that are asked for.
  assert taylor.work_of('prune').nb_images > 0
  assert plain.work_of('prune') == Work()
  nb_units = len(pressed.units(pressed.graph(pressed.model)).units)
  assert pressed.work_of('allocate').nb_images == nb_units * 7 * 500


def test_a_search_has_an_estimate_for_a_chain(make, baseline, monkeypatch):
  monkeypatch.setattr(dry_run, '_seconds_an_image', lambda *args: 0.01)
  assert make('joint-search', run={'warm_start_path': baseline}).dry_run() > 0
