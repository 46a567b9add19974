"""--layers and inspect."""

import json

import pytest

from secateurs.learners.channels.inspection import inspect
from secateurs.learners.run.layer_choice import LayerChoice, LayerRule, read_layers
from secateurs.utils.errors import UserError

SHORT = {'nb_epochs_ft': 0.5}


def test_rules_by_hand():
  choice = LayerChoice(
    skip=('stem',), only=('s*', 'c2'), floors={'*': 0.2, 's1_*': 0.5}, ratios={'c2': 0.25}
  )
  assert choice.rule(['stem']).skip
  assert choice.rule(['other']).skip
  assert choice.rule(['c2']) == LayerRule(False, 0.2, 0.25)
  rule = choice.rule(['s1_a'])
  assert rule == LayerRule(False, 0.5, None)
  assert (rule.count(9, 2), rule.count(9, 7)) == (5, 7)
  assert choice.rule(['c2']).count(16, 12) == 4
  assert LayerRule(ratio=0.0).count(16, 3) == 1


NAMES_OF_NAMES = 'a0: &a0 [x, x]\n' + ''.join(
  f'a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n' for n in range(1, 25)
)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('skip: [a', 'is no YAML file'),
    ('skipped: [a]', 'has skipped, but of skip, only, floors, ratios some were expected'),
    ('- a', 'has no keys'),
    ('skip: {a: 1}', 'skip takes a list of names'),
    ('floors: {a: 2}', r'floors takes names with fractions in \[0, 1\] that stay'),
    ('ratios: [a]', 'ratios takes names with fractions'),
    ('skip: !!python/object/apply:os.getcwd []', 'is no YAML file'),
    ('skip: ' + '[' * 3000, 'is no YAML file'),
    ('floors: {a: 2020-13-45}', 'is no YAML file'),  # A date that is none.
    (NAMES_OF_NAMES, 'stands for over 100000 values'),
  ],
)
def test_files_that_mean_nothing_are_refused(tmp_path, text, message):
  (tmp_path / 'f.yaml').write_text(text)
  with pytest.raises(UserError, match=message):
    read_layers(str(tmp_path / 'f.yaml'))
  with pytest.raises(UserError, match='does not exist'):
    read_layers(str(tmp_path / 'none.yaml'))


@pytest.fixture
def layers(tmp_path):
  def write(text):
    (tmp_path / 'layers.yaml').write_text(text)
    return str(tmp_path / 'layers.yaml')

  return write


def kept(result):
  return {cut['layer']: len(cut['kept']) for cut in json.loads(result.plan.read_text())['channels']}


def test_channels_follow_the_file(make, baseline, layers, capsys):
  path = layers('skip: [dense*]\nratios: {conv1: 0.5}\nfloors: {conv2: 0.9}\n')
  options = {'run': {'warm_start_path': baseline, 'layers': path}, 'training': SHORT}
  result = make('chn-pruned', uniform_preserve_ratio=0.3, nb_batches=2, **options).train()
  sizes = {row['name']: row['out_channels'] for row in result.report['layers']}
  assert sizes['conv1'][1] == round(0.5 * sizes['conv1'][0])
  assert sizes['conv2'][1] >= 0.9 * sizes['conv2'][0]
  out = capsys.readouterr().out
  assert 'keeps 0.5' in out
  assert 'keeps at least 0.9' in out
  layers('ratios: {conv1: 0.25}')
  other = make('chn-pruned', uniform_preserve_ratio=0.3, nb_batches=2, **options)
  with pytest.raises(UserError, match=r'is a checkpoint of another run .--layers'):
    other.train()


def test_budgets_are_met_with_floors_and_ratios(make, baseline, layers):
  path = layers('ratios: {conv1: 0.5}\nfloors: {"*": 0.2}\n')
  options = {'run': {'warm_start_path': baseline, 'layers': path}, 'training': SHORT}
  result = make(
    'filter-pruned', repair='none', prune_option='global', preserve_ratio=0.4, **options
  ).train()
  assert result.report['achieved']['macs_ratio'] == pytest.approx(0.4, abs=0.03)
  sizes = {row['name']: row['out_channels'] for row in result.report['layers'] if row['macs'][0]}
  assert sizes['conv1'][1] == round(0.5 * sizes['conv1'][0])
  assert all(after >= 0.2 * before for before, after in sizes.values())


def test_zeros_follow_the_file(make, baseline, layers):
  path = layers('only: [conv*]\nratios: {conv2: 0.5}\n')
  options = {'run': {'warm_start_path': baseline, 'layers': path}, 'training': SHORT}
  result = make('weight-sparse', prune_ratio=0.8, **options).train()
  found = {row['name']: row['sparsity'] for row in result.report['layers'] if row['macs'][0]}
  assert found.pop('conv2') == pytest.approx(0.5, abs=0.01)
  assert all(share == 0 for name, share in found.items() if not name.startswith('conv'))


def test_names_of_no_layer_are_refused_before_work(make, baseline, layers):
  run = {'warm_start_path': baseline, 'layers': layers('skip: [strange]')}
  for name in ('chn-pruned', 'weight-sparse', 'filter-pruned'):
    with pytest.raises(UserError, match="names 'strange', but no layer of lenet has that name"):
      make(name, run=run).train()


def test_inspect_tells_what_may_be_cut(make, layers, capsys):
  learner = make('chn-pruned', run={'layers': layers('skip: [conv1]')})
  found = inspect(learner)
  out = capsys.readouterr().out
  assert 'What chn-pruned may cut' in out
  assert 'named by --layers' in out
  assert any('named by --layers' in one for one in found['stays_whole'])
  assert json.loads((learner.files.log_dir / 'inspection.json').read_text()) == found
  assert (learner.files.log_dir / 'channels.png').read_bytes().startswith(b'\x89PNG')
  assert len(inspect(make('full-prec'))['units']) >= 3
