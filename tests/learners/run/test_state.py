"""What runs remember: JSON and back, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from secateurs.learners import learners
from secateurs.learners.run.state import (
  LearnerState,
  PhaseTime,
  RunState,
  from_checkpoint,
  to_json,
)
from secateurs.utils.errors import UserError
from secateurs.utils.training.models.checkpoints import Saved


def saved(state):
  return Saved(Path('run/model.ckpt-7'), 7, json.loads(json.dumps(state)))


@pytest.mark.parametrize('name', learners())
def test_a_state_survives_json(name):
  kind = learners()[name].State
  state = RunState({'net': 'lenet', '-n': 2}, kind(), ['train'], 'finetune', 12)
  state.times['train'] = PhaseTime(40, 1.5, 320.0)
  state.original = {'score': {'value': 0.5}, 'latency': [{'threads': 1}]}
  again = from_checkpoint(saved(to_json(state)), kind)
  assert again == state
  assert type(again.algorithm) is kind
  assert type(again.times['train']) is PhaseTime


def test_curves_are_pairs_again():
  kind = learners()['chn-pruned'].State
  state = RunState({}, kind(kept={'conv2': [0, 2]}))
  state.algorithm.widths.divergence = {'conv2': [(0.0, 0.0), (0.5, 0.25)]}
  again = from_checkpoint(saved(to_json(state)), kind)
  assert again.algorithm.widths.divergence['conv2'][1] == (0.5, 0.25)
  assert again.algorithm.kept == {'conv2': [0, 2]}


@pytest.mark.parametrize('name', learners())
def test_every_field_is_documented(name):
  kind = learners()[name].State
  for field in dataclasses.fields(kind):
    homes = [base for base in kind.__mro__ if field.name in getattr(base, '__annotations__', {})]
    assert f'{field.name}: ' in homes[0].__doc__, f'{kind.__name__}.{field.name}'


def test_old_and_foreign_states_are_refused():
  state = to_json(RunState({}, LearnerState()))
  old = {key: value for key, value in state.items() if key != 'format'}
  with pytest.raises(UserError, match=r'run/model.ckpt-7 holds a run in format 1, .* format 2'):
    from_checkpoint(saved(old), LearnerState)
  foreign = {**state, 'algorithm': {'kept': {}}}
  with pytest.raises(UserError, match=r'holds no state of this learner \(kept: '):
    from_checkpoint(saved(foreign), LearnerState)
  with pytest.raises(UserError, match=r'holds no state of this learner \(step: '):
    from_checkpoint(saved({**state, 'step': 'many'}), LearnerState)
