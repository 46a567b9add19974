"""plan.json: the same cut on the same architecture, on other weights, without choosing again."""

import dataclasses
import json

import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners.run.results.plan_cuts import apply_plan, channel_cuts, keep_of_plan
from secateurs.learners.run.results.plans import (
  ChannelCut,
  CutPlan,
  CutStep,
  merged,
  read_plan,
  require_channels_alone,
  structure,
  write_plan,
)
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, count, drop_block, residual_blocks

CONFIGS = {
  'weight-sparse': {'prune_ratio_prtl': 'heurist', 'prune_ratio': 0.6},
  'chn-pruned': {'compare': False, 'nb_batches': 4},
  'dis-chn-pruned': {'nb_iters_block': 3, 'nb_iters_layer': 2, 'nb_smpls_layer': 64},
}


@pytest.fixture(scope='module')
def planned(make_in, baseline, tmp_path_factory):
  """For each learner a finished run and the path of its plan."""
  found = {}
  for name, config in CONFIGS.items():
    folder = tmp_path_factory.mktemp(name)
    training = {'nb_epochs_ft': 0.03}
    learner = make_in(folder, name, run={'warm_start_path': baseline}, training=training, **config)
    found[name] = learner.train()
  return found


def other_weights(helper, path):
  """A network of the same architecture with weights of its own."""
  model = helper.build_model(11)
  model.save(path)
  return str(path)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_plan_is_applied_without_choosing_again(
  name, planned, make, helper, tmp_path, monkeypatch
):
  first = planned[name]
  for target in (
    'secateurs.learners.channels.repair.choosing.choose',
    'secateurs.learners.channels.blocks.greedy.UnitPruning.run',
    'secateurs.learners.weight_sparse.heuristic',
  ):
    monkeypatch.setattr(target, None)
  weights = other_weights(helper, tmp_path / 'other.keras')
  learner = make(
    name,
    run={'warm_start_path': weights, 'plan': str(first.plan)},
    training={'nb_epochs_ft': 0.03},
    **CONFIGS[name],
  )
  again = learner.train()
  assert [w.shape for w in again.model.weights] == [w.shape for w in first.model.weights]
  assert again.report['extra']['kept'] == first.report['extra']['kept']
  assert again.report['requested'] == {'plan': str(first.plan)}
  one, other = (json.loads(result.plan.read_text()) for result in (first, again))
  assert one == other


@pytest.mark.parametrize('name', CONFIGS)
def test_a_plan_is_applied_in_python(name, planned, helper):
  first, model = planned[name], helper.build_model(5)
  cut = apply_plan(model, first.plan)
  assert count(cut).macs == first.report['compressed']['macs']
  plan = read_plan(first.plan)
  for kernel, zeros in plan.zeros.items():
    weights = cut.get_layer(kernel).kernel.numpy()
    assert (weights != 0).sum() == zeros.kept
    assert (
      np.abs(weights[weights != 0]).min()
      >= np.sort(np.abs(model.get_layer(kernel).kernel.numpy()).ravel())[-zeros.kept]
    )


def test_cuts_of_groups_and_of_single_layers_come_back():
  graph = ChannelGraph(cifar_resnet(20))
  group = next(g for g in graph.groups if g.prunable)
  layer = 'stage2_block2_conv2'
  keep = {group.index: np.array([0, 3]), (layer, 'input'): np.array([1, 5, 9])}
  cuts = channel_cuts(graph, keep)
  plan = CutPlan('x', None, 'net', structure(graph.model), cuts)
  again = keep_of_plan(plan, graph)
  assert {key: list(kept) for key, kept in again.items()} == {
    key: list(kept) for key, kept in keep.items()
  }


def test_channels_of_a_layer_that_opens_no_group_are_refused():
  plan = CutPlan('x', None, 'net', [], [ChannelCut('nowhere', 'output', 8, [0])])
  with pytest.raises(UserError, match='cuts the channels of layer nowhere, but no channel group'):
    keep_of_plan(plan, ChannelGraph(cifar_resnet(20)))


def test_a_plan_of_another_network_is_refused_with_the_first_difference(tmp_path):
  plan = CutPlan('x', None, 'resnet20', structure(cifar_resnet(20)))
  write_plan(plan, tmp_path / 'plan.json')
  model = cifar_resnet(32)
  with pytest.raises(
    UserError, match=r'plan of another network: resnet20 has Conv2D .* where this'
  ):
    apply_plan(model, tmp_path / 'plan.json')
  shorter = dataclasses.replace(plan, layers=plan.layers[:-1])
  with pytest.raises(UserError, match=r'has \d+ layers with weights where this network has \d+'):
    apply_plan(cifar_resnet(20), shorter)


def test_the_flags_of_the_plans_run_are_asked_for(planned, make, baseline, tmp_path):
  run = {'warm_start_path': baseline, 'plan': str(planned['chn-pruned'].plan)}
  with pytest.raises(
    UserError, match=r'prunes no kernel in the pattern unstructured, but this run'
  ):
    make('weight-sparse', 'one', run=run).train()
  run['plan'] = str(planned['weight-sparse'].plan)
  with pytest.raises(UserError, match=r'--plan .* cuts no channels, which chn-pruned'):
    make('chn-pruned', 'two', run=run, compare=False).train()


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    (lambda plan: plan.pop('layers'), 'is no plan of a cut'),
    (lambda plan: plan.update(schema=9), 'schema 9, but 1 was expected'),
    (lambda plan: plan['channels'][0].update(kept=[0, 99]), 'keeps channels 0, 99 of 6'),
    (lambda plan: plan['channels'][0].update(kept=[1, 1]), 'keeps channels 1, 1 of 6'),
    (lambda plan: plan['channels'][0].update(kept=['a']), r'channels.0.kept.0: '),
  ],
)
def test_damaged_plans_are_refused(change, text, tmp_path):
  plan = dataclasses.asdict(
    CutPlan('x', None, 'net', [], [ChannelCut('conv1', 'output', 6, [0, 1])])
  )
  change(plan)
  path = tmp_path / 'plan.json'
  path.write_text(json.dumps(plan))
  with pytest.raises(UserError, match=text):
    read_plan(path)


def test_what_is_no_plan_is_refused(tmp_path):
  (tmp_path / 'plan.json').write_text('{"schema": ')
  for path in (tmp_path / 'plan.json', tmp_path / 'none.json', tmp_path):
    with pytest.raises(UserError, match='cannot be read as a plan'):
      read_plan(path)


def test_a_model_that_is_cut_stays_as_it_was(planned, helper):
  model = helper.build_model(5)
  before = model.get_weights()
  cut = apply_plan(model, planned['chn-pruned'].plan)
  assert isinstance(cut, keras.Model)
  for a, b in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


def cut(layer, size, kept):
  return ChannelCut(layer, 'output', size, kept)


def test_steps_without_blocks_become_one():
  steps = [
    CutStep([], [cut('a', 6, [1, 3, 5]), cut('b', 4, [0, 1])]),
    CutStep([], [cut('a', 3, [0, 2]), cut('c', 5, [4])]),
    CutStep(['add'], [cut('b', 2, [1])]),
    CutStep([], [cut('b', 1, [0])]),
  ]
  first, second = merged(steps)
  assert first == CutStep([], [cut('a', 6, [1, 5]), cut('b', 4, [0, 1]), cut('c', 5, [4])])
  assert second == CutStep(['add'], [cut('b', 2, [1])])
  assert merged([]) == []


def test_blocks_go_before_the_channels_that_are_left(tmp_path):
  model, block = cifar_resnet(20), 'stage1_block2_add'
  assert block in residual_blocks(model)
  group = next(g for g in ChannelGraph(drop_block(model, block)).groups if g.prunable)
  kept = list(range(1, group.size, 2))
  plan = CutPlan('joint-search', None, 'resnet20', structure(model), blocks=[block])
  plan = dataclasses.replace(plan, steps=[CutStep([], [cut(group.name, group.size, kept)])])
  write_plan(plan, tmp_path / 'plan.json')
  assert read_plan(tmp_path / 'plan.json') == plan
  found = apply_plan(model, tmp_path / 'plan.json')
  assert not any(layer.name.startswith('stage1_block2_conv') for layer in found.layers)
  assert count(found).macs < count(drop_block(model, block)).macs
  with pytest.raises(UserError, match='a plan with residual blocks, which chn-pruned does not'):
    require_channels_alone(plan, 'it', 'chn-pruned')
