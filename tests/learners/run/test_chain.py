"""--chain: links run in order, resume, and end in one report."""

import json
import re
from types import SimpleNamespace

import pytest

from secateurs.learners import cli
from secateurs.learners.run.chain import Link, read_chain
from secateurs.learners.run.preflight import dry_run
from secateurs.nets.experiments import LENET_AT_DIGITS
from secateurs.utils.deploy.compare.reading import find_reports
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine import loop

CHAIN = """links:
  - learner: l1
    epochs: 0.5
    flags: {fp_repair: none, fp_prune_ratio: 0.25}
  - learner: weight-sparse
    flags: {ws_prune_ratio: 0.5, nb_epochs_ft: 0.5, ws_schedule: one-shot}
"""


def test_a_chain_by_hand(tmp_path):
  (tmp_path / 'c.yaml').write_text(CHAIN + '  - full-prec\n')
  first, second, third = read_chain(str(tmp_path / 'c.yaml'))
  assert first.arguments() == [
    '--learner=l1',
    '--nb_epochs_ft=0.5',
    '--fp_repair=none',
    '--fp_prune_ratio=0.25',
  ]
  assert (second.folder, third) == ('link2_weight-sparse', Link(3, 'full-prec', {}))
  assert Link(1, 'a', {'x': True, 'y': False}).arguments()[1:] == ['--x', '--noy']


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('links: []', 'was expected to hold `links:` and a list of learners'),
    ('steps: [a]', 'was expected to hold `links:`'),
    ('links: [{epochs: 1}]', 'link 1 is .* but learner and, if wanted, epochs and flags'),
    ('links: [{learner: a, flags: [b]}]', 'flags of link 1 are'),
    ('links: [{learner: a, flags: {run_dir: b}}]', 'link 1 sets --run_dir, which the chain sets'),
  ],
)
def test_files_that_mean_nothing_are_refused(tmp_path, text, message):
  (tmp_path / 'c.yaml').write_text(text)
  with pytest.raises(UserError, match=message):
    read_chain(str(tmp_path / 'c.yaml'))


@pytest.fixture
def command(tmp_path, baseline, monkeypatch):
  """Runs the command line in this process."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'c.yaml').write_text(CHAIN)

  def run(*arguments):
    given = ['--run_dir', 'chain', '--warm_start_path', baseline, '--bench_frames', '5']
    return cli._run(lambda: LENET_AT_DIGITS, ['x', '--chain', 'c.yaml', *given, *arguments])

  return run


def test_a_flag_without_an_effect_on_a_later_link_is_refused_before_the_first(command, tmp_path):
  (tmp_path / 'c.yaml').write_text(CHAIN + '  - uniform-quant\n')
  with pytest.raises(UserError, match='--layers f has no effect on uniform-quant'):
    command('--layers', 'f')
  assert not (tmp_path / 'chain').exists()


@pytest.mark.parametrize(
  ('flag', 'problem'),
  [
    ('log_dir', 'there has no place in a --chain'),
    ('fp_save_path', 'is a flag of learner filter-pruned and has no effect on weight-sparse'),
    ('ws_save_path_eval', 'is a flag of learner weight-sparse and has no effect on filter-pruned'),
  ],
)
def test_a_folder_that_links_would_share_is_refused_before_the_first(
  command, tmp_path, flag, problem
):
  with pytest.raises(UserError, match=f'--{flag} {problem}'):
    command(f'--{flag}', 'there')
  assert not (tmp_path / 'chain').exists()
  assert not (tmp_path / 'there').exists()


def test_a_chain_runs_resumes_and_is_one_row(command, tmp_path, monkeypatch, capsys):
  run, seen = loop.TrainStep.run, []

  def die_in_the_second_link(self, batches, nb_steps):
    seen.append(nb_steps)
    if (tmp_path / 'chain' / 'link2_weight-sparse').is_dir():
      raise KeyboardInterrupt
    return run(self, batches, nb_steps)

  with monkeypatch.context() as patch:
    patch.setattr(loop.TrainStep, 'run', die_in_the_second_link)
    with pytest.raises(KeyboardInterrupt):
      command()
  trained = (tmp_path / 'chain' / 'link1_l1').stat().st_mtime_ns
  capsys.readouterr()
  assert command() == 0
  out = capsys.readouterr().out
  assert 'Link 1 of 2: l1' in out
  assert 'the whole chain' in out
  assert (tmp_path / 'chain' / 'link1_l1').stat().st_mtime_ns == trained
  summary = json.loads((tmp_path / 'chain' / 'chain.json').read_text())
  assert [row['link'] for row in summary['links']] == ['link1_l1', 'link2_weight-sparse']
  assert summary['seconds_total'] == pytest.approx(sum(r['seconds'] for r in summary['links']))
  (path,) = find_reports([tmp_path / 'chain'])
  report = json.loads(path.read_text())
  assert [link['learner'] for link in report['links']] == ['filter-pruned', 'weight-sparse']
  assert report['compressed']['sparsity'] == pytest.approx(0.5, abs=0.02)
  assert [link['seconds_total'] for link in report['links']] == [
    row['seconds'] for row in summary['links']
  ]
  assert 'Cost of each link' in path.with_suffix('.html').read_text()
  assert command('--dry_run') == 0
  assert 'The whole chain: about 0 s (' in capsys.readouterr().out
  layers = {row['name']: row['out_channels'] for row in report['layers']}
  assert layers['conv2'] == [12, 12]


def test_flags_of_all_links_are_checked_before_work(command, tmp_path):
  (tmp_path / 'c.yaml').write_text(CHAIN.replace('ws_prune_ratio: 0.5', 'cp_nb_batches: 3'))
  with pytest.raises(UserError, match='--cp_nb_batches is a flag of learner chn-pruned'):
    command()
  (tmp_path / 'c.yaml').write_text(CHAIN)
  with pytest.raises(UserError, match='--chain runs with --exec_mode train, but eval was given'):
    command('--exec_mode', 'eval')
  assert not (tmp_path / 'chain').exists()


def test_a_dry_run_estimates_every_link(command, tmp_path, monkeypatch, capsys):
  """Without what comes on top of training, whose minutes are whole ones then."""
  clock = [0.0]

  def take_a_minute(step, batches, nb_steps):
    """No training: each step takes a minute."""
    clock[0] += 60 * nb_steps

  monkeypatch.setattr(loop.TrainStep, 'run', take_a_minute)
  monkeypatch.setattr(dry_run, 'exporting_seconds', lambda work, megabytes: 0.0)
  monkeypatch.setattr(dry_run, 'timing_seconds', lambda work, settings: 0.0)
  monkeypatch.setattr(dry_run, 'time', SimpleNamespace(perf_counter=lambda: clock[0]))
  assert command('--dry_run') == 0
  out = capsys.readouterr().out
  first, second = out.split('Link 2 of 2: weight-sparse')
  minutes = [int(re.search(r'for the (\d+) training steps', part)[1]) for part in (first, second)]
  assert all(minutes)
  # The weights come from the link before: no baseline is trained.
  assert re.search(r'Phase 1 of \d, baseline: [^,]+, and measure it\n', second)
  assert (
    f'The whole chain: about {sum(minutes)} min 00 s (link1_l1 {minutes[0]} min 00 s, '
    f'link2_weight-sparse {minutes[1]} min 00 s)'
  ) in second
  assert not list(tmp_path.glob('chain/**/*.index'))
  assert not list(tmp_path.glob('chain/**/*.keras'))
