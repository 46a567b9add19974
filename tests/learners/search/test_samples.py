import pytest
from absl import flags

from secateurs.learners import cli, learners
from secateurs.learners.run.configs import DistillConfig, QuantConfig, RunConfig, TrainConfig
from secateurs.learners.search.samples import HalfJudging, require_held_out
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
