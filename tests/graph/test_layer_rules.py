"""Rules of layers of users: the examples of docs/layer_rules.md are proved, wrong rules are noticed."""

import re
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  PassThrough,
  PerChannel,
  check_layer_rule,
  register_layer_rule,
  save_model,
  slice_model,
)
from secateurs.utils.graph.rules import registry

PAGE = Path(__file__).parents[2] / 'docs' / 'layer_rules.md'
L = keras.layers


@pytest.fixture
def own_rules(monkeypatch):
  """Rules that a test registers are gone after it."""
  monkeypatch.setattr(registry, '_BY_TYPE', dict(registry._BY_TYPE))


@pytest.fixture
def examples(own_rules, capsys):
  """What the page's code defines."""
  defined = {'__name__': 'examples'}
  for block in re.findall(r'```python\n(.*?)```', PAGE.read_text('utf-8'), flags=re.DOTALL):
    exec(block, defined)
  return defined


def test_the_examples_are_proved_and_short(examples, capsys):
  blocks = re.findall(r'class \w+Rule\(.*?(?=register_layer_rule)', PAGE.read_text(), re.DOTALL)
  assert len(blocks) == 3
  assert all(len(block.split('\n')) <= 16 for block in blocks)


def test_networks_with_all_three_are_cut_and_saved(examples, tmp_path):
  keras.utils.set_random_seed(0)
  image = keras.Input((8, 8, 3))
  x = L.Conv2D(16, 3, padding='same', name='first')(image)
  x = examples['SqueezeExcite'](name='gate')(examples['L2Norm'](name='norm')(x))
  x = examples['PixelShuffle'](name='shuffle')(x)
  model = keras.Model(image, L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(x))))
  group = ChannelGraph(model).group('first')
  assert (group.prunable, group.size) == (True, 4)  # Four channels each become one.
  small = slice_model(model, {'first': [0, 2, 4, 6, 8, 10, 12, 14]})
  assert small.get_layer('gate').reduce.shape == (8, 4)
  assert small.get_layer('norm').scale.shape == (8,)
  again = keras.models.load_model(save_model(small, tmp_path / 'small.keras'))
  images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
  np.testing.assert_allclose(again(images), small(images), atol=1e-6)


def test_wrong_rules_are_noticed(examples, monkeypatch):
  class Norm(examples['L2Norm']):
    pass

  class Twin(examples['L2Norm']):
    pass

  register_layer_rule(Norm, PerChannel({'scale': 0}))  # As if the norm added up nothing.
  with pytest.raises(UserError, match=r'rule of Norm is wrong: .* differs from the masked one by'):
    check_layer_rule(Norm(), (4, 4, 8))
  with pytest.raises(
    UserError, match=r'rule of Twin lets no channel go \(Twin .* may mix channels\)'
  ):
    check_layer_rule(Twin(), (4, 4, 8))
  register_layer_rule(Twin, PassThrough())  # As if there was no scale.
  with pytest.raises(UserError, match='rule of Twin makes a layer that does not fit its weights'):
    check_layer_rule(Twin(), (4, 4, 8))
