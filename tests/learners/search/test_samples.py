from types import SimpleNamespace

import pytest
from absl import flags

from secateurs.learners import cli, get_learner, learners
from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.search import samples
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.samples import HalfJudging, require_held_out, who_judges
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.errors import UserError


def values_of(*arguments):
  """Flags after a learner's defaults of the data's are set."""
  configs = {name: one.Config for name, one in learners().items()}
  common = (RunConfig, TrainConfig, DistillConfig, QuantConfig, DataConfig)
  values: flags.FlagValues = cli._defined((*common, *configs.values()))
  values(['script', *arguments])
  cli._maker(values, configs, values)
  return values


@pytest.mark.parametrize(
  ('arguments', 'number'),
  [
    (['--learner=joint-search'], -1),
    (['--learner=block-drop'], -1),
    (['--learner=joint-search', '--nb_smpls_val=0'], 0),
    (['--learner=joint-search', '--js_judge=half'], 0),
    (['--learner=chn-pruned'], 0),
  ],
)
def test_a_search_holds_samples_out_unless_others_judge_it(arguments, number):
  assert values_of(*arguments)['nb_smpls_val'].value == number


def test_a_search_never_judges_on_what_it_trains_on(helper, held_out):
  require_held_out(held_out)
  require_held_out(HalfJudging(helper))
  with pytest.raises(UserError, match=r'none are held out of training: give --nb_smpls_val -1'):
    require_held_out(helper)


@pytest.mark.parametrize(
  ('flags', 'came_trained', 'nb_eval', 'judge'),
  [
    ({}, True, 10_000, 'half'),
    ({}, False, 10_000, 'held-out'),
    ({}, True, 4_600, 'held-out'),  # 601 for each of four times, twice.
    ({'max_drop': 0.05}, True, 4_600, 'half'),
    ({'max_drop': 0.05}, True, 3_999, 'held-out'),
    ({'max_bytes': '9kB'}, True, 4_000, 'half'),
    ({'judge': 'held-out'}, True, 10_000, 'held-out'),
    ({'judge': 'half'}, False, 10, 'half'),
  ],
)
@pytest.mark.parametrize('by_path', [True, False])
def test_a_network_that_came_trained_is_judged_on_samples_that_it_does_not_know(
  flags, came_trained, nb_eval, judge, by_path
):
  weights = {} if came_trained and not by_path else None
  run = RunConfig(warm_start_path='a.npz' if came_trained and by_path else None)
  helper = SimpleNamespace(given_weights=lambda: weights, nb_samples=lambda split: nb_eval)
  assert who_judges(helper, JsConfig(**flags), run) == judge


def test_the_learner_judges_by_what_was_found(held_out, tmp_path, monkeypatch):
  monkeypatch.setattr(samples, '_ENOUGH', 10)
  monkeypatch.setattr(samples, '_ENOUGH_TIMES', 0)
  run = RunConfig(run_dir=str(tmp_path), warm_start_path='a.npz')
  learner = get_learner('joint-search')(held_out, run=run)
  assert learner.config.judge == 'half'
  assert learner.helper.nb_samples('val') == held_out.nb_samples('eval') // 2
