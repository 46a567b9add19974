"""Every structured learner keeps the parts of a split equally wide, unless the flag is off."""

from types import SimpleNamespace

import numpy as np
import pytest
from networks import split_net, tied_net

from secateurs.learners.channels.cuts.even_splits import equal_splits
from secateurs.learners.channels.inspection import inspect
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.search.building import Repair, repaired, rough
from secateurs.learners.search.reach import Reach
from secateurs.learners.search.state import Taken
from secateurs.utils.graph import ChannelGraph

CONFIGS = {
  'filter-pruned': {'criterion': 'random', 'prune_ratio': 0.45},
  'chn-pruned': {'select': 'random', 'uniform_preserve_ratio': 0.55, 'nb_batches': 2},
  'dis-chn-pruned': {'select': 'random', 'prune_ratio': 0.45, 'nb_stages': 0, 'nb_iters_layer': 1},
  'reg-pruned': {'prune_ratio': 0.45, 'prune_option': 'uniform', 'nb_batches': 2},
  'gate-pruned': {'prune_ratio': 0.45, 'nb_batches': 2},
  'prune-regrow': {'prune_ratio': 0.45, 'prune_option': 'uniform'},
}


@pytest.mark.parametrize(
  ('name', 'even'),
  [
    ('filter-pruned', True),
    ('filter-pruned', False),
    ('chn-pruned', True),
    *(
      pytest.param(name, even, marks=pytest.mark.exhaustive)
      for name, even in (
        ('chn-pruned', False),
        ('dis-chn-pruned', True),
        ('reg-pruned', True),
        ('gate-pruned', True),
        ('prune-regrow', True),
      )
    ),
  ],
)
def test_parts_of_a_split_stay_equally_wide(name, even, make, helper):
  network = type(helper)('split_net', split_net, helper.dataset, helper.recipe)
  learner = make(
    name,
    training={'nb_epochs_ft': 0.1, 'nb_epochs_rat': 0.02},
    helper=network,
    even_splits=even,
    **CONFIGS[name],
  )
  report = learner.train().report
  assert report['compressed']['macs'] < report['original']['macs']
  kinds = report['compressed']['operators']
  assert ('SPLIT_V' in kinds) != even


def test_a_split_that_no_cut_leaves_equal_is_said_before_and_after(make, helper):
  network = type(helper)('tied_net', tied_net, helper.dataset, helper.recipe)
  learner = make(
    'filter-pruned', training={'nb_epochs_ft': 0.0}, helper=network, **CONFIGS['filter-pruned']
  )
  assert 'stem0 keeps all 8 channels' in inspect(learner)['splits']
  report = learner.train().report
  assert 'SPLIT_V' in report['compressed']['operators']
  assert 'TensorFlow Lite takes a slower operator for' in ' '.join(report['notes'])


@pytest.mark.parametrize('even', [True, False])
def test_a_try_of_the_joint_search_keeps_them_so_too(even, helper):
  model, reach = split_net(), Reach('couple', (), even=even)
  units = reach.units(reach.graph(model))
  taken = [
    Taken(unit.name, 'channels', unit.size, unit.size - 1 - number % 2, 0.0)
    for number, unit in enumerate(units)
  ]
  images = helper.calibration_images(64)
  repair = Repair([np.asarray(images)], Method('magnitude', refit_all=True))
  net, cuts = repaired(model, taken, reach, repair, SimpleNamespace(helper=helper))
  assert cuts
  for found in (net, rough(model, taken, reach)):
    assert (len(equal_splits(ChannelGraph(found))) == 2) == even
