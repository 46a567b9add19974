"""Saved models in fresh processes, users' files, the command line, QAT."""

import subprocess
import sys
import zipfile

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import conv, random_inputs, randomize

from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  ChannelSelection,
  count,
  load_model,
  plain_model,
  save_model,
  slice_model,
)
from secateurs.utils.graph.__main__ import main
from secateurs.utils.graph.show.plotting import plot_groups

L = keras.layers
FRESH = """
import sys, numpy as np, tf_keras
x = np.load(sys.argv[1])
for path in sys.argv[2:]:
  np.save(path + '.npy', tf_keras.models.load_model(path)(x, training=False))
assert not any(name.startswith('secateurs') for name in sys.modules)
"""


def net():
  x = keras.Input((8, 8, 3))
  y = L.ReLU()(L.BatchNormalization()(conv(8, 'stem')(x)))
  z = conv(8, 'b')(L.ReLU()(conv(6, 'a')(y)))
  y = conv(4, 'c')(L.Add()([y, z]))
  return randomize(keras.Model(x, L.Dense(3, name='head')(L.Flatten()(y)), name='net'))


@pytest.mark.slow
def test_saved_models_load_without_this_project(tmp_path):
  model = net()
  small = slice_model(
    model, {('a', 'input'): [0, 3, 4, 7], ('c', 'input'): [2, 3, 4], 'b': [0, 2, 3, 4, 5, 7]}
  )
  kinds = [one.bounds for one in small.layers if isinstance(one, ChannelSelection)]
  assert sorted(kinds, key=str) == [(1, 4), None]
  small.compile('sgd', loss=lambda y, p: tf.reduce_mean(y - p))  # would not load elsewhere
  inputs = random_inputs(model)[0]
  np.save(tmp_path / 'x.npy', inputs)
  files = [str(save_model(small, tmp_path / f'deep/small.{kind}')) for kind in ('keras', 'h5')]
  assert not list(tmp_path.glob('deep/.*'))
  command = [sys.executable, '-c', FRESH, str(tmp_path / 'x.npy'), *files]
  result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
  assert result.returncode == 0, result.stderr[-2000:]
  for path in files:
    np.testing.assert_allclose(np.load(f'{path}.npy'), small(inputs), rtol=1e-5, atol=1e-6)
    again = load_model(path)
    assert count(again).macs == count(small).macs
    assert ChannelGraph(again).group('stem').prunable  # plain ops are understood
  plain = plain_model(small)
  assert not any(isinstance(one, ChannelSelection) for one in plain.layers)
  assert plain_model(model) is model
  with pytest.raises(UserError, match=r'\.keras or \.h5'):
    save_model(small, tmp_path / 'small.pb')


@pytest.mark.slow
def test_channel_selection_survives_quantisation_aware_training():
  import tensorflow_model_optimization as tfmot

  small = slice_model(net(), {('a', 'input'): [0, 3, 4, 7]})
  quantization = tfmot.quantization.keras
  none = small.get_layer('a_selection').get_quantize_config()

  def annotate(layer):
    if isinstance(layer, ChannelSelection):
      return quantization.quantize_annotate_layer(layer, quantize_config=none)
    return quantization.quantize_annotate_layer(layer)

  annotated = keras.models.clone_model(small, clone_function=annotate)
  scope = {'ChannelSelection': ChannelSelection, type(none).__name__: type(none)}
  with quantization.quantize_scope(scope):
    aware = quantization.quantize_apply(annotated)
  aware.compile('sgd', 'mse')
  x = random_inputs(small)[0]
  before = aware.get_weights()
  aware.fit(x, np.ones((2, 3)), verbose=0)
  assert any((a != b).any() for a, b in zip(before, aware.get_weights(), strict=True))


@pytest.mark.parametrize('kind', ['keras', 'h5'])
def test_command_line(kind, tmp_path, capsys):
  source, out, plot = (str(tmp_path / name) for name in (f'm.{kind}', f's.{kind}', 'g.png'))
  model = net()
  model.save(source)
  assert main([source, '--ratio', '0.5', '--out', out, '--plot', plot]) == 0
  text = capsys.readouterr().out
  small = load_model(out)
  assert small.get_layer('stem').filters == 4
  assert "Channel groups of 'net': 4, of which 3 can be cut" in text
  before, after = count(model), count(small)
  assert f'{before.macs:,} -> {after.macs:,}' in text
  assert (tmp_path / 'g.png').read_bytes()[:4] == b'\x89PNG'
  assert main([source, '--macs', '0.5', '--scope', 'global', '--out', out]) == 0
  assert count(load_model(out)).macs <= before.macs / 2
  assert main([source]) == 0


def test_a_picture_of_a_model_with_an_odd_name(tmp_path):
  """A pair of $ would make a formula of what is between them."""
  inputs = L.Input((4, 4, 2))
  model = keras.Model(inputs, L.Conv2D(2, 1)(inputs), name='n$y{$')
  plot_groups(ChannelGraph(model), tmp_path / 'g.png')
  assert (tmp_path / 'g.png').stat().st_size


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['missing.keras'], 'does not exist'),
    (['resnet_at_digits'], 'the name of a network is no model: give the path of a model file'),
    (['m.keras', '--ratio', '0.5'], 'needs --out'),
    (['m.keras', '--out', 's.keras'], 'needs a goal'),
    (['m.keras', '--criterion', 'x'], '--criterion has an effect only with a goal'),
    (['m.keras', '--round-to', '8'], '--round-to has an effect only with a goal'),
    (['m.keras', '--ratio', '1.5', '--out', 's.keras'], 'ratio must lie in'),
    (['m.keras', '--ratio', '0.5', '--out', 's.txt'], 'must end in .keras or .h5'),
    (['m.keras', '--ratio', '0.5', '--out', 's.keras', '--criterion', 'x'], 'Unknown criterion'),
    (['m.keras', '--macs', '10', '--out', 's.keras'], 'out of reach'),
    (['three.keras', '--ratio', '0.5', '--out', 's.h5'], 'saved as .keras'),
    (['three_lambda.keras'], 'has a Lambda layer'),
    (['weights.h5'], 'holds weights alone, but a whole model was expected'),
    (['junk.keras'], 'is a text file'),
    (['half.h5'], 'half.h5 cannot be read by the HDF5 library'),
    (['damaged.keras'], 'cannot be loaded as a Keras model'),
    (['lambda.keras'], 'has a Lambda layer'),
    (['m.keras', '--plot', 'groups.foo'], '--plot must end in .png or .svg or .pdf'),
    (['m.keras', '--plot', 'junk.keras/groups.png'], 'Cannot write to the folder'),
    (['m.keras', '--ratio', '0.5', '--out', 'junk.keras/s.keras'], 'Cannot write to the folder'),
  ],
)
def test_command_line_mistakes(arguments, words, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  model = net()
  model.save('m.keras')
  model.save('m.h5')
  model.save_weights('weights.h5')
  keras.Sequential([L.Input((4,)), L.Lambda(lambda t: t + 1)]).save('lambda.keras')
  (tmp_path / 'junk.keras').write_text('not a model')
  (tmp_path / 'half.h5').write_bytes((tmp_path / 'm.h5').read_bytes()[:4000])
  with zipfile.ZipFile('damaged.keras', 'w') as archive:
    archive.writestr('metadata.json', '{"keras_ver')
  three = keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(2)])
  three.save('three.keras')
  three = keras3.Sequential([keras3.Input((4,)), keras3.layers.Lambda(lambda t: t + 1)])
  three.save('three_lambda.keras')
  assert main(arguments) == 1
  error = capsys.readouterr().err
  assert words in error
  assert error.count('\n') == 1


def test_the_command_line_is_quiet(tmp_path):
  net().save(tmp_path / 'm.keras')
  command = [sys.executable, '-m', 'secateurs.utils.graph', str(tmp_path / 'm.keras')]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stderr == ''
  code = 'import sys, secateurs.utils.graph; sys.exit("tensorflow" in sys.modules)'
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('kind', ['keras', 'h5'])
def test_files_hold_neither_loss_nor_classes_of_the_model(kind, tmp_path):
  class Own(keras.Model):
    pass

  inner = net()
  model = Own(inner.inputs, inner.outputs)
  model.compile('sgd', loss=lambda y, p: tf.reduce_mean(y - p))
  again = keras.models.load_model(save_model(model, tmp_path / f'm.{kind}'))
  assert not getattr(again, 'optimizer', None)
  x = random_inputs(inner)[0]
  np.testing.assert_allclose(again(x), inner(x), atol=1e-6)
  assert [p.name for p in tmp_path.iterdir()] == [f'm.{kind}']


def test_other_kinds_of_models(tmp_path):
  built = keras.Sequential([L.Input((8, 8, 3)), conv(4, 'a'), L.Flatten(), L.Dense(2)])
  small = slice_model(built, {'a': [0, 2]})
  assert small.get_layer('a').filters == 2
  with pytest.raises(UserError, match='no input shape yet'):
    ChannelGraph(keras.Sequential([conv(4)]))

  class Subclassed(keras.Model):
    def call(self, x):
      return x

  with pytest.raises(UserError, match='subclassed model'):
    ChannelGraph(Subclassed())
  with pytest.raises(UserError, match=r'Keras 3 model .*to_tf_keras'):
    ChannelGraph(keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(2)]))
  with pytest.raises(UserError, match='Expected a tf_keras model'):
    ChannelGraph('model.keras')


class Scale(keras.layers.Layer):
  """A user's layer with a complete config."""

  def __init__(self, factor=2.0, **kwargs):
    super().__init__(**kwargs)
    self.factor = factor

  def build(self, shape):
    self.scale = self.add_weight('scale', (shape[-1],))

  def call(self, x):
    return x * self.scale * self.factor

  def get_config(self):
    return {**super().get_config(), 'factor': self.factor}


class Forgetful(Scale):
  """And one without."""

  def __init__(self, factor, **kwargs):
    super().__init__(factor, **kwargs)

  def get_config(self):
    return keras.layers.Layer.get_config(self)


@pytest.mark.parametrize('kind', [Scale, Forgetful])
def test_custom_layers_are_protected_and_copied(kind):
  x = keras.Input((8, 8, 3))
  y = kind(3.0, name='mine')(conv(4, 'b')(L.ReLU()(conv(6, 'a')(x))))
  model = randomize(keras.Model(x, L.GlobalAveragePooling2D()(y)))
  graph = ChannelGraph(model)
  assert graph.group('b').reasons == [f"{kind.__name__} 'mine' may mix channels"]
  if kind is Forgetful:
    with pytest.raises(UserError, match=r"Layer 'mine' .* get_config"):
      slice_model(graph, {'a': [0, 1]})
    return
  small = slice_model(graph, {'a': [0, 1]})
  np.testing.assert_array_equal(small.get_layer('mine').scale, model.get_layer('mine').scale)
  assert small.get_layer('mine').factor == 3.0
