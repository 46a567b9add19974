"""Flags that learners of channels share."""

import dataclasses

import pytest

from secateurs.learners.channels.blocks.dcp_config import DcpConfig
from secateurs.learners.channels.cp_config import CpConfig
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.methods import METHODS, config_of
from secateurs.utils.errors import UserError


@pytest.mark.parametrize('config', [CpConfig, DcpConfig])
def test_flags_of_a_search_need_one(config):
  values = {'prune_option': 'auto', 'nb_rlouts_min': 4}
  with pytest.raises(UserError, match=rf'only with --{config.prefix}nb_rlouts above 1: give that'):
    config(**values)
  assert config(**values, nb_rlouts=8).nb_rlouts_min == 4


@pytest.mark.parametrize('config', [CpConfig, DcpConfig])
def test_layers_at_the_same_time_need_a_scan(config):
  with pytest.raises(UserError, match=rf'only with --{config.prefix}prune_option auto, --'):
    config(jobs=2)
  with pytest.raises(UserError, match='jobs 2 has an effect only with'):
    config(jobs=2, prune_option='amc')
  assert config(jobs=2, prune_option='auto').scans
  assert config(jobs=2, target_ram=0.5).scans


@pytest.mark.parametrize(
  ('config', 'values', 'text'),
  [
    (
      FpConfig,
      {'abc_nb_cycles': 3},
      '--fp_abc_nb_cycles 3 has an effect only with --fp_prune_option',
    ),
    (FpConfig, {'prune_option': 'abc', 'abc_nb_epochs': 1.0}, 'with --fp_abc_fitness epochs'),
    (FpConfig, {'prune_option': 'abc', 'abc_fitness': 'epochs', 'abc_nb_steps': 5}, 'quick'),
    (FpConfig, {'max_drop': 0.1}, 'only with --fp_prune_option sensitivity'),
    (FpConfig, {'floor': 0.2}, 'only with --fp_preserve_ratio, or a --fp_prune_option'),
    (FpConfig, {'list_layout': 'hrank'}, 'only with --fp_prune_option list'),
    (FpConfig, {'prune_list_file': 'my.list'}, 'only with --fp_prune_option list'),
    (FpConfig, {'nb_iters_ft_ratio': 0.5}, 'only with --fp_schedule layer-by-layer'),
    (FpConfig, {'prune_option': 'list', 'prune_ratio': 0.3}, 'only with --fp_prune_option uniform'),
    (
      FpConfig,
      {'prune_option': 'sensitivity', 'max_drop': 0.1, 'preserve_ratio': 0.5},
      '--fp_max_drop 0.1 has no effect beside --fp_preserve_ratio',
    ),
    (FpConfig, {'prune_ratio': 0.3, 'preserve_ratio': 0.5}, 'no effect beside --fp_preserve_ratio'),
    (FpConfig, {'prune_ratio': 0.3, 'target_ram': 0.5}, 'no effect beside --fp_target_ram'),
    (
      CpConfig,
      {'uniform_preserve_ratio': 0.3, 'preserve_ratio': 0.5},
      'beside --cp_preserve_ratio',
    ),
    (DcpConfig, {'prune_ratio': 0.3, 'preserve_ratio': 0.5}, 'beside --dcp_preserve_ratio'),
    (CpConfig, {'target_latency': 0.3, 'preserve_ratio': 0.5}, 'both say how much stays'),
    (DcpConfig, {'greedy': 'add', 'epsilon': 0.1, 'prune_ratio': 0.3}, 'but --dcp_prune_ratio 0.3'),
    (DcpConfig, {'greedy': 'add', 'epsilon': 0.1, 'preserve_ratio': 0.3}, '--dcp_preserve_ratio'),
  ],
)
def test_what_has_no_effect_beside_other_flags_is_refused(config, values, text):
  with pytest.raises(UserError, match=text):
    config(**values)


def test_what_has_an_effect_is_accepted():
  assert FpConfig(floor=0.2, preserve_ratio=0.5).has_floor
  assert FpConfig(floor=0.2, prune_option='global', prune_ratio=0.3).has_floor
  assert FpConfig(prune_option='list', list_layout='hrank', prune_list_file='x').list_layout
  assert config_of('hrank', prune_option='list').list_layout == 'hrank'
  assert config_of('hrank', preserve_ratio=0.5).nb_rounds == 1


@pytest.mark.parametrize('name', list(METHODS))
def test_every_row_is_accepted_with_a_budget_of_macs_where_it_has_one(name):
  row = config_of(name)
  has_one = 'preserve_ratio' in {field.name for field in dataclasses.fields(row)}
  if has_one and row.prune_option != 'zeros' and getattr(row, 'epsilon', None) is None:
    assert config_of(name, preserve_ratio=0.5).preserve_ratio == 0.5


@pytest.mark.parametrize('values', [{'prune_option': 'amc'}, {'target_ram': 0.5}, {}])
def test_layers_are_limited_where_they_are_refit_to_be_measured(values):
  assert DcpConfig(**values).measures == bool(values)
