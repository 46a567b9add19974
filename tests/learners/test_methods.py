"""Published methods: every row names flags that exist and answers that are registered."""

import dataclasses
import subprocess
import sys

import pytest
from absl import flags

from secateurs.learners import get_learner, learners
from secateurs.learners.channels.questions import QUESTIONS
from secateurs.learners.methods import METHODS, config_of, resolve, table
from secateurs.utils.errors import UserError
from secateurs.utils.flag_values import apply_settings, define_flags, read_config


@pytest.mark.parametrize('name', METHODS)
def test_a_row_names_flags_of_its_learner_and_values_that_they_take(name):
  method = METHODS[name]
  config = get_learner(method.learner).Config
  known = {config.flag_name(field) for field in dataclasses.fields(config)}
  assert set(method.settings) <= known
  made = config_of(name)
  for field in dataclasses.fields(config):
    flag = config.flag_name(field)
    if flag in method.settings and made.is_used(field):
      assert getattr(made, field.name) == method.settings[flag]


@pytest.mark.parametrize('name', METHODS)
def test_a_row_answers_all_five_questions(name):
  method = METHODS[name]
  answers = {question: getattr(method, question) for question in QUESTIONS}
  assert all(answers.values())
  if method.learner not in ('weight-sparse', 'non-uniform-quant'):
    for question, answer in answers.items():
      assert answer in QUESTIONS[question], f'{question} {answer}'
  assert method.paper
  assert method.deviations


@pytest.mark.parametrize('name', METHODS)
def test_settings_of_a_row_are_not_the_name_of_a_learner(name):
  assert name not in learners()
  learner, method = resolve(name)
  assert (learner.name, method.name) == (METHODS[name].learner, name)


def test_what_is_given_beside_a_method_wins():
  assert config_of('cp', select='l1').select == 'l1'
  assert config_of('cp', select='l1').trunk == 'gather'
  values = flags.FlagValues()
  define_flags(get_learner('chn-pruned').Config, values)
  values(['x', '--cp_select', 'random'])
  config = get_learner('chn-pruned').Config
  apply_settings(METHODS['cp'].settings, config, values)
  read = read_config(config, values)
  assert (read.select, read.trunk, read.refit_all) == ('random', 'gather', False)


def test_settings_of_a_row_that_have_no_effect_beside_what_is_given_are_dropped():
  assert config_of('han2015').scan == 'sigma'
  beside = config_of('han2015', prune_ratio_prtl='uniform')
  assert (beside.schedule, beside.protocol, beside.scan) == ('iterative', 'uniform', 'ratio')


def test_unknown_names_suggest_the_nearest():
  with pytest.raises(
    UserError, match=r"'dcp-adpt' is no learner or method.*Did you mean dcp-adapt\?"
  ):
    resolve('dcp-adpt')
  with pytest.raises(UserError, match=r'Did you mean weight-sparse\?'):
    resolve('weight-sparce')
  assert resolve('channel')[0].name == 'chn-pruned'


def test_names_are_unique():
  with pytest.raises(ValueError, match="method name 'agp'"):
    METHODS.add('agp', dataclasses.replace(METHODS['agp'], year=2000))


def test_the_table_lists_every_method():
  text = table()
  for method in METHODS.values():
    assert method.name in text
    assert method.paper in text
    assert all(deviation in text for deviation in method.deviations)


def test_the_table_is_printed():
  done = subprocess.run(
    [sys.executable, '-m', 'secateurs.learners'], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == table()
  assert done.stderr == ''


@pytest.mark.parametrize('name', ['agp', 'cp', 'thinet'])
def test_the_report_names_the_method(name, make, baseline):
  short = {'compare': False, 'nb_batches': 2} if METHODS[name].learner == 'chn-pruned' else {}
  learner = make(
    METHODS[name].learner,
    run={'warm_start_path': baseline},
    training={'nb_epochs_ft': 0.02},
    method=name,
    **dataclasses.asdict(config_of(name, **short)),
  )
  report = learner.train().report
  assert report['method'] == name
  assert report['learner'] == METHODS[name].learner
