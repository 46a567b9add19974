"""The recipes: their flags are known, their heads complete, and their short variants run."""

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags
from alike import alike

from secateurs.learners import cli, get_learner, learners
from secateurs.learners.run import chain
from secateurs.learners.run.configs import DistillConfig, RunConfig, TrainConfig
from secateurs.nets.experiments import experiment_of
from secateurs.nets.recipe import CIFAR10_RECIPE
from secateurs.utils.errors import UserError
from secateurs.utils.flag_values import define_flags, read_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'nets' / 'recipes'
RECIPES = sorted(p.stem for p in FOLDER.glob('*.flags') if 'smoke' not in p.stem)
# Those that differ from one of these in a ratio alone run in no more than one of the tests.
SMOKES = ['growing_resnet56']
LARGE_SMOKES = [
  'agp_mobilenet_v1_90',
  'cp_vgg16_5x',
  'dcp_resnet56',
  'cp_resnet50_2x',
  'cp_xception_2x',
  'dcp_mobilenet_v2',
  'dcp_resnet18_50',
  'dcp_resnet50_50',
  'slimming_vgg19',
  'autopruner_resnet50',
  'chex_resnet18',
]
ALL_SMOKES = [*SMOKES, *alike(*LARGE_SMOKES)]
# The commands of the documents that the project comes from, launcher and number of processes left out.
SEEDS = {
  'nets/resnet_at_cifar10_run.py': '--learner dis-chn-pruned --dcp_prune_ratio 0.75',
  'nets/resnet_at_ilsvrc12_run.py': '--learner dis-chn-pruned --resnet_size 34 --dcp_nb_stages 4',
  'nets/mobilenet_at_ilsvrc12_run.py': (
    '--learner dis-chn-pruned --mobilenet_version 2 --enbl_dst'
  ),
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
  """Recipes name each other from there."""
  monkeypatch.chdir(ROOT)


def entry_script(recipe):
  return re.search(r'nets/\w+_run\.py', (FOLDER / f'{recipe}.flags').read_text())[0]


def parse(script, *args):
  """The flags' values as configs by class, and the learner's name."""
  values = flags.FlagValues()
  flags.DEFINE_string('learner', 'full-prec', '', flag_values=values)
  spec = experiment_of(script)
  configs = [RunConfig, TrainConfig, DistillConfig, *spec.configs]
  configs += [learner.Config for learner in learners().values()]
  for config in configs:
    define_flags(config, values)
  assert values(['x', *args]) == ['x']
  return {c: read_config(c, values) for c in configs}, values.learner


@pytest.mark.parametrize('recipe', RECIPES)
def test_a_recipe_is_complete(recipe):
  text = (FOLDER / f'{recipe}.flags').read_text()
  for word in ('Expected: ', 'Cost: ', f'--flagfile=nets/recipes/{recipe}.flags'):
    assert word in text
  script = entry_script(recipe)
  assert (ROOT / script).is_file()
  _, learner = parse(script, f'--flagfile=nets/recipes/{recipe}.flags')
  assert f'--learner={learner}' in text
  assert parse(script, f'--flagfile=nets/recipes/{recipe}_smoke.flags')[1] == learner
  assert {*SMOKES, *LARGE_SMOKES} <= set(RECIPES)


@pytest.mark.parametrize('script', SEEDS)
def test_the_documents_commands_are_understood(script):
  configs, learner = parse(script, *SEEDS[script].split())
  assert get_learner(learner).name == 'dis-chn-pruned'
  networks = {type(c).__name__: c for c in configs.values()}
  if 'resnet_at_ilsvrc12' in script:
    assert networks['ImagenetResNetConfig'].resnet_size == 34
    assert networks['DcpConfig'].nb_stages == 4
  if 'mobilenet' in script:
    assert networks['MobileNetConfig'].mobilenet_version == 2
    assert configs[DistillConfig].enbl_dst


def phases(log_dir):
  """Losses by phase, in order."""
  found = {}
  for line in (log_dir / 'metrics.jsonl').read_text().splitlines():
    entry = json.loads(line)
    found.setdefault(entry['phase'], []).append(entry['loss'])
  return found


@pytest.mark.slow
@pytest.mark.parametrize('recipe', ALL_SMOKES)
def test_a_smoke_run(recipe, tmp_path, request):
  script = entry_script(recipe)
  fixture = 'tiny_ilsvrc12' if 'ilsvrc12' in script else 'cifar10_folder'
  data = request.getfixturevalue(fixture)
  argv = ['x', f'--flagfile=nets/recipes/{recipe}_smoke.flags', f'--data_dir_local={data}']
  assert cli._run(lambda: experiment_of(script), [*argv, f'--run_dir={tmp_path}']) == 0
  losses = phases(tmp_path / 'logs' / 'full-prec')['train']
  assert losses[-1] < losses[0]
  (log_dir,) = [p for p in (tmp_path / 'logs').iterdir() if p.name != 'full-prec']
  report = json.loads((log_dir / 'report.json').read_text())
  assert report['parity']['tflite_vs_keras'] < 1e-3
  requested, achieved = report['requested'], report['achieved']
  if 'sparsity' in requested:
    assert achieved['sparsity'] == pytest.approx(requested['sparsity'], abs=1e-3)
    return
  assert report['parity']['slim_vs_masked'] <= 1e-4
  if 'macs_ratio' in requested:
    assert 0.95 * requested['macs_ratio'] < achieved['macs_ratio'] <= requested['macs_ratio']
  else:
    kept = [(r['kept'], r['of']) for r in report['extra']['layers']]
    ratio = 1 - requested['channels_ratio']
    assert all(nb == max(of - int(ratio * of), 1) for nb, of in kept)


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.yaml')), ids=lambda path: path.stem)
def test_a_chain_of_the_recipes_is_understood(path, monkeypatch):
  """As before all work of the command in its head: every link's learner, flags and values."""
  name, made = f'nets/recipes/{path.name}', []
  (script,) = re.findall(rf'^# Run: .*(nets/\w+_run\.py) --chain {name}$', path.read_text(), re.M)
  assert (ROOT / script).is_file()

  def read_only(links, makes, helper, run_dir, mode, *, dry):
    made.extend((link, make(helper)) for link, make in zip(links, makes, strict=True))

  monkeypatch.setattr(chain, 'run', read_only)
  helper = SimpleNamespace(name='any', recipe=CIFAR10_RECIPE)
  experiment = dataclasses.replace(experiment_of(script), build=lambda *_: helper)
  assert cli._run(lambda: experiment, ['x', '--chain', name]) == 0
  assert len(made) > 1
  for link, learner in made:
    assert link.learner in {learner.name, learner.settings.method}
    read = learner.settings.flags()
    assert link.flags
    assert {flag: read[flag] for flag in link.flags} == link.flags
  assert len({link.folder for link, _ in made}) == len(made)


def test_a_chain_with_a_flag_of_another_learner_is_not(tmp_path):
  """What the test above would find."""
  text = (FOLDER / 'slim_int4.yaml').read_text()
  for wrong, message in (('cp_prune_optoin', 'cp_prune_optoin'), ('ws_prune_ratio', 'ws_prune_r')):
    (tmp_path / 'c.yaml').write_text(text.replace('uql_weight_bits', wrong))
    with pytest.raises((flags.Error, UserError), match=message):
      cli._run(
        lambda: experiment_of('nets/resnet_at_cifar10_run.py'),
        ['x', '--chain', str(tmp_path / 'c.yaml')],
      )
