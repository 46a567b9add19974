"""Budgets of MACs that one ratio for all layers meets, without any network."""

from types import SimpleNamespace

import numpy as np
import pytest

from secateurs.learners.channels.allocation import choices
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.ratios import nb_kept, nb_left
from secateurs.learners.channels.blocks.dcp_config import DcpConfig
from secateurs.learners.channels.cp_config import CpConfig
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.state import WidthState
from secateurs.learners.channels.widths import Widths
from secateurs.utils.errors import UserError

SIZES = (16, 32, 64)
UNITS = [Unit(f'u{i}', i, size, (f'u{i}',), {}) for i, size in enumerate(SIZES)]


def kept(size, ratio):
  return nb_kept(size, ratio, quadruple=False)


def macs(sizes):
  first, second, third = sizes
  return 27 * first + 9 * first * second + 9 * second * third + 10 * third


@pytest.fixture
def make(monkeypatch):
  form = lambda graph, units: lambda gone: macs(np.array(SIZES) - np.array(gone))  # noqa: E731
  monkeypatch.setattr(choices, 'macs_form', form)
  graph = SimpleNamespace(counts=lambda: SimpleNamespace(macs=macs(SIZES)))
  site = SimpleNamespace(
    original=lambda: None, graph=lambda model: graph, units=lambda graph: UNITS
  )

  def widths(config, width, ratio, budget):
    return Widths(config, WidthState(), site, width=width, ratio=ratio, budget=budget)

  return widths


@pytest.mark.parametrize('share', [0.75, 0.5, 0.25])
@pytest.mark.parametrize('config', [CpConfig, DcpConfig])
def test_one_ratio_meets_a_budget_within_one_channel(config, share, make):
  found = make(config(preserve_ratio=share), kept, 0.5, share)
  counts = found.counts(UNITS)
  sizes, budget = [counts[unit.name] for unit in UNITS], share * macs(SIZES)
  assert macs(sizes) <= budget
  for i in range(len(sizes)):
    assert macs([n + (i == j) for j, n in enumerate(sizes)]) > budget
  shares = np.array(sizes) / SIZES
  assert shares.max() - shares.min() <= 2 / 16
  assert found.state.macs_ratio == share
  assert found.counts(UNITS) is counts  # A resumed run takes the same.


def test_without_a_budget_the_ratio_decides(make):
  counts = make(CpConfig(), kept, 0.25, 0.5).counts(UNITS)
  assert list(counts.values()) == [4, 8, 16]


def test_a_budget_out_of_reach_is_refused(make):
  with pytest.raises(UserError, match=r'--cp_preserve_ratio asks for 0.0001 .*: raise it'):
    make(CpConfig(preserve_ratio=1e-4), kept, 0.5, 1e-4).counts(UNITS)


def test_a_ratio_below_the_agents_floors_is_refused(make):
  """It was raised to the floors before."""
  found = make(DcpConfig(prune_option='amc', prune_ratio=0.9), nb_left, 0.9, None)
  table = Choices(
    found.site.graph(None), UNITS, least={unit.name: unit.size // 4 for unit in UNITS}
  )
  text = r'--dcp_prune_ratio 0.9 asks for 0.0\d+ .* stay .*: lower it, .*--dcp_amc_least'
  with pytest.raises(UserError, match=text):
    found.budget(table, macs(SIZES))
  assert found.budget(Choices(found.site.graph(None), UNITS), macs(SIZES)) == macs([2, 4, 7])
