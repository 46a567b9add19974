import numpy as np
import pytest

from secateurs.learners.channels.cuts import reach
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.cuts.units import find_units
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.graph import ChannelGraph


@pytest.fixture(scope='module')
def graph():
  return ChannelGraph(cifar_resnet(20))


def test_half_of_the_convolutions_of_resnet20_lose_inputs_while_the_trunk_stays(graph):
  told = reach.note(
    graph,
    lambda trunk: find_units(graph, trunk).units,
    'keep',
    ('keep', 'couple', 'gather'),
    by_inputs=True,
    prefix='dcp_',
  )
  assert told == (
    'Ratios apply to the inputs of 9 of 21 convolutions: inputs that residual additions join stay; '
    '--dcp_trunk reaches more: couple 20, gather 20.'
  )


def test_the_stem_and_first_layers_of_branches_make_what_filters_choose_from(graph):
  told = reach.note(
    graph,
    lambda trunk: filter_units(graph, trunk).units,
    'couple',
    (),
    by_inputs=False,
    prefix='fp_',
  )
  assert told == 'Ratios apply to the filters of 21 of 21 convolutions (--fp_trunk couple).'


@pytest.mark.parametrize(
  ('name', 'config', 'flag'),
  [
    ('chn-pruned', {'uniform_preserve_ratio': 1.0}, '--cp_uniform_preserve_ratio 1'),
    ('chn-pruned', {'prune_option': 'auto', 'preserve_ratio': 1.0}, '--cp_preserve_ratio 1'),
    ('dis-chn-pruned', {'prune_ratio': 0.0}, '--dcp_prune_ratio 0'),
    ('filter-pruned', {'prune_ratio': 0.0, 'prune_option': 'auto'}, '--fp_prune_ratio 0'),
    ('reg-pruned', {'prune_ratio': 0.0}, '--rp_prune_ratio 0'),
    ('gate-pruned', {'preserve_ratio': 1.0}, '--gp_preserve_ratio 1'),
    ('prune-regrow', {'prune_ratio': 0.0}, '--pr_prune_ratio 0'),
    ('weight-sparse', {'prune_ratio': 0.0}, '--ws_prune_ratio 0'),
  ],
)
def test_where_nothing_goes_the_model_is_the_baseline_bit_by_bit(
  name, config, flag, make, residual, residual_weights
):
  learner = make(name, helper=residual, run={'warm_start_path': residual_weights}, **config)
  result = learner.train()
  before = learner.original_model().get_weights()
  assert len(before) == len(result.model.get_weights())
  for one, other in zip(before, result.model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  assert any(note.startswith(flag) for note in result.report['notes'])
  assert result.report['achieved']['macs_ratio'] == 1.0


def test_the_first_lines_say_what_ratios_apply_to(make, residual, residual_weights, capsys):
  learner = make('filter-pruned', helper=residual, run={'warm_start_path': residual_weights})
  learner.run_phases(until='baseline')
  assert 'Ratios apply to the filters of' in capsys.readouterr().out
  assert learner.findings().notes[0].startswith('Ratios apply to')
