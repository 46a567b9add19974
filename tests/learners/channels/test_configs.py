"""Flags that learners of channels share."""

import pytest

from secateurs.learners.channels.blocks.dcp_config import DcpConfig
from secateurs.learners.channels.cp_config import CpConfig
from secateurs.utils.errors import UserError


@pytest.mark.parametrize('config', [CpConfig, DcpConfig])
@pytest.mark.parametrize('name', ['jobs', 'nb_rlouts_min'])
def test_flags_of_a_search_need_one(config, name):
  values = {'prune_option': 'auto', name: 4}
  with pytest.raises(UserError, match=rf'only with --{config.prefix}nb_rlouts above 1: give that'):
    config(**values)
  assert getattr(config(**values, nb_rlouts=8), name) == 4
