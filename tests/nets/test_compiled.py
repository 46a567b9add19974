import pytest
import tf_keras as keras

from secateurs.nets.compiled import CompiledOptimizer, compiled_settings


@pytest.mark.parametrize(
  ('kind', 'settings'),
  [
    ('Adam', {'beta_1': 0.7, 'clipnorm': 1.0}),
    ('SGD', {'momentum': 0.6, 'nesterov': True}),
    ('RMSprop', {'rho': 0.8}),
  ],
)
def test_optimizers_of_old_files_are_made_again(kind, settings):
  """Files of Keras before 2.11 hold legacy optimizers, whose `decay` new ones refuse."""
  old = getattr(keras.optimizers.legacy, kind)(0.01, decay=0.1, **settings)
  found = CompiledOptimizer.of(old)
  assert found.lrn_rate == pytest.approx(0.01)
  made = found.make(0.5)
  assert type(made) is getattr(keras.optimizers, kind)
  assert float(made.learning_rate) == 0.5
  config = made.get_config()
  assert {name: config[name] for name in settings} == pytest.approx(settings)


def test_averages_of_a_compiled_optimizer_are_left_to_the_flag():
  model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)])
  model.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.95), 'mse')
  found = compiled_settings(model)
  assert not found.optimizer.make(0.1).use_ema
  assert any('--average_ft ema' in note and '--ema_decay 0.95' in note for note in found.notes)
