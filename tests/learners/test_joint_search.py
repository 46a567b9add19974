"""Searches on handwritten digits with a small residual network: what is promised holds."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tf_keras as keras
from killing import killed

import secateurs
from secateurs.learners.run.results.plan_cuts import apply_plan
from secateurs.learners.run.results.plans import read_plan
from secateurs.learners.search.building import Repair, refit_without_blocks, without_blocks
from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.reach import Reach
from secateurs.learners.search.savings import block_choices
from secateurs.learners.search.scene import Scene
from secateurs.learners.search.state import Taken
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.classification import Classification

L = keras.layers
SHORT = {
  'nb_tries': 3,
  'nb_epochs_try': 1.0,
  'nb_epochs_ft': 2.0,
  'bench_frames': 5,
  'bench_threads': '1',
  'nb_smpls_val': 300,
  'enbl_bf16': False,
}


def network():
  """Two residual blocks whose shortcuts are identities."""
  keras.utils.set_random_seed(0)
  x = inputs = keras.Input((8, 8, 1))
  x = L.Conv2D(12, 3, padding='same', activation='relu', name='stem')(x)
  for block in ('one', 'two'):
    y = L.Conv2D(12, 3, padding='same', use_bias=False, name=f'{block}_a')(x)
    y = L.ReLU(name=f'{block}_ar')(L.BatchNormalization(name=f'{block}_an')(y))
    y = L.Conv2D(12, 3, padding='same', use_bias=False, name=f'{block}_b')(y)
    y = L.BatchNormalization(name=f'{block}_bn')(y)
    x = L.ReLU(name=f'{block}_r')(L.Add(name=f'{block}_add')([x, y]))
  x = L.GlobalMaxPooling2D(name='pool')(x)
  return keras.Model(inputs, L.Dense(10, activation='softmax', name='out')(x))


@pytest.fixture(scope='module')
def digits():
  from sklearn.datasets import load_digits

  images, labels = load_digits(return_X_y=True)
  images = images.reshape(-1, 8, 8, 1).astype('float32') / 16
  return (images[:1400], labels[:1400]), (images[1400:], labels[1400:])


@pytest.fixture(scope='module')
def model(digits):
  found = network()
  found.compile(keras.optimizers.Adam(3e-3), 'sparse_categorical_crossentropy')
  found.fit(*digits[0], batch_size=32, epochs=4, verbose=0)
  return found


@pytest.fixture(scope='module')
def searched(model, digits, tmp_path_factory):
  folder = tmp_path_factory.mktemp('searched')
  result = secateurs.compress(
    model, *digits, max_drop=0.06, minimise='macs', run_dir=str(folder), **SHORT
  )
  return folder, result


@pytest.mark.slow
def test_the_network_is_smaller_within_the_loss(searched):
  report = searched[1].report
  assert report['compressed']['macs'] < 0.75 * report['original']['macs']
  drop = report['original']['score']['value'] - report['compressed']['score']['value']
  assert drop <= 0.06
  assert 'looked at once' in report['notes'][0]
  path = report['extra']['search_path']
  chosen = path['tries'][path['chosen'] - 1]
  assert chosen['accepted']
  assert chosen['macs'] == report['compressed']['macs']
  assert report['extra']['held_out']['samples'] == 300


@pytest.mark.slow
def test_the_best_network_is_on_disk_and_the_path_on_the_page(searched):
  folder, result = searched
  networks = folder / 'models_js' / 'networks'
  assert (networks / 'best.tflite').stat().st_size < 120_000
  page = (folder / 'logs' / 'joint-search' / 'report.html').read_text()
  assert 'Path of the search' in page
  assert result.export(folder / 'small.tflite').is_file()


@pytest.mark.slow
def test_a_plan_makes_the_same_network_without_a_search(searched, model, digits, tmp_path):
  result = searched[1]
  plan = read_plan(result.plan)
  shapes = [weight.shape for weight in result.model.weights]
  cut = apply_plan(model, plan)
  assert [weight.shape for weight in cut.weights] == shapes
  again = secateurs.compress(
    model, *digits, max_drop=0.06, minimise='macs', run_dir=str(tmp_path), plan=str(result.plan),
    **SHORT,
  )  # fmt: skip
  assert [weight.shape for weight in again.model.weights] == shapes
  assert read_plan(again.plan) == plan
  report = again.report
  assert report['requested'] == {'plan': str(result.plan)}
  assert report['compressed']['score']['value'] > 0.3  # The baseline is hardly trained.
  assert [phase['name'] for phase in report['phases']].count('search') == 0


@pytest.mark.slow
def test_limits_are_shown_with_what_was_reached(searched):
  report = searched[1].report
  assert report['requested']['max_drop'] == 0.06
  assert report['achieved']['max_macs'] == report['compressed']['macs']
  page = (searched[0] / 'logs' / 'joint-search' / 'report.html').read_text()
  table = page.partition('Requested and achieved</h2>')[2].partition('</table>')[0]
  assert 'at most 6.00 pt' in table
  assert '<td>-</td>' not in table


@pytest.mark.slow
def test_a_limit_out_of_reach_says_what_was_reached(model, digits, tmp_path):
  with pytest.raises(
    UserError, match=r'was not met: the least that was reached is .* where its score'
  ):
    secateurs.compress(
      model, *digits, max_macs='40k', run_dir=str(tmp_path), **{**SHORT, 'nb_tries': 1}
    )


@pytest.mark.parametrize(('limit', 'unit'), [('max_macs', ''), ('max_ram', 'B')])
def test_a_limit_that_nothing_can_meet_is_refused_before_the_search(
  model, digits, tmp_path, limit, unit
):
  with pytest.raises(
    UserError, match=rf'--js_{limit} .* is out of reach: .* stay in an? .* file, with accuracy'
  ):
    secateurs.compress(model, *digits, run_dir=str(tmp_path), **{limit: f'9{unit}', **SHORT})


def test_a_network_that_guesses_is_refused(digits, tmp_path):
  with pytest.raises(UserError, match='Train it first'):
    secateurs.compress(network(), *digits, max_drop=0.05, run_dir=str(tmp_path), **SHORT)


def test_too_few_samples_are_refused(model, digits, tmp_path):
  with pytest.raises(UserError, match=r'on 50 samples.*hold out at least 601 .* a drop of 0\.121'):
    secateurs.compress(model, *digits, run_dir=str(tmp_path), **{**SHORT, 'nb_smpls_val': 50})


@pytest.mark.slow
def test_a_killed_search_ends_alike(model, digits, searched, tmp_path, monkeypatch):
  arguments = {'max_drop': 0.06, 'minimise': 'macs', 'run_dir': str(tmp_path), **SHORT}
  for moment in (1, 3):
    with killed(monkeypatch, lambda steps: len(steps) > moment):  # noqa: B023
      secateurs.compress(model, *digits, **arguments)
  result = secateurs.compress(model, *digits, **arguments)
  pairs = zip(result.model.get_weights(), searched[1].model.get_weights(), strict=True)
  assert all(np.array_equal(a, b) for a, b in pairs)


def with_other_statistics(model):
  """The same function, with batch-norm statistics that are those of other data."""
  found = keras.models.clone_model(model)
  found.set_weights(model.get_weights())
  rng = np.random.default_rng(0)
  for layer in found.layers:
    if isinstance(layer, L.BatchNormalization):
      gamma, beta, mean, variance = (weight.numpy() for weight in layer.weights)
      scale, shift = rng.uniform(0.2, 2, gamma.shape), rng.normal(0, 1, gamma.shape)
      moved = (variance + layer.epsilon) * scale**2 - layer.epsilon
      beta = beta + gamma * shift / np.sqrt(variance + layer.epsilon)
      layer.set_weights([gamma * scale, beta, mean + shift, np.maximum(moved, 0)])
  return found


@pytest.mark.slow
def test_what_batch_statistics_would_ruin_stays_as_the_cut_left_it(model, digits, tmp_path):
  strange = with_other_statistics(model)
  pair = [net(digits[1][0], training=False).numpy() for net in (model, strange)]
  np.testing.assert_allclose(*pair, atol=1e-3)
  short = {**SHORT, 'nb_epochs_try': 0.1, 'nb_epochs_ft': 0.1}
  result = secateurs.compress(
    strange, *digits, max_drop=0.06, minimise='macs', run_dir=str(tmp_path), **short
  )
  report = result.report
  path = report['extra']['search_path']
  assert path['chosen']
  assert path['tries'][path['chosen'] - 1]['drop at most'] <= 0.06
  assert any('tries was undone' in note for note in report['notes'])
  assert report['compressed']['macs'] < report['original']['macs']


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_packed_file_takes_zeros_and_few_values(model, digits, tmp_path, capsys):
  result = secateurs.compress(
    model, *digits, max_drop=0.08, file='packed', run_dir=str(tmp_path), **SHORT
  )
  kernel = result.model.get_layer('two_b').kernel.numpy()
  assert len(np.unique(kernel)) <= 17
  assert result.files['dc'].stat().st_size < 0.5 * result.report['original']['tflite_bytes']
  first = result.report['extra']['search_path']['tries'][0]
  assert 'weights share few values, nothing goes' in capsys.readouterr().out
  assert first['bytes'] < 0.3 * result.report['original']['tflite_bytes']


@pytest.mark.exhaustive
@pytest.mark.slow
def test_blocks_alone_go(model, digits, tmp_path):
  result = secateurs.compress(
    model, *digits, learner='block-drop', js_max_macs='60k', run_dir=str(tmp_path),
    js_nb_tries=3, js_nb_epochs_try=1.0, nb_epochs_ft=1.0, bench_frames=5, nb_smpls_val=300,
  )  # fmt: skip
  taken = json.loads((tmp_path / 'logs/joint-search/report.json').read_text())['extra']['taken']
  assert {row['what'] for row in taken} == {'block'}
  assert len(result.model.layers) < len(model.layers)


def test_what_follows_a_block_that_went_makes_up_for_it(model, digits):
  from secateurs.learners.channels.repair.method import Method

  images = digits[0][0]
  taken = [Taken('one_add', 'block', 1, 0, 0.1)]
  repair = Repair([images[:128], images[128:256]], Method('backward', refit_all=True))
  wanted = model(images[300:400], training=False).numpy()

  def error(net):
    return np.square(net(images[300:400], training=False).numpy() - wanted).mean()

  refit = refit_without_blocks(model, taken, Reach('keep', ()), repair)
  assert len(refit.layers) == len(without_blocks(model, taken).layers) < len(model.layers)
  assert error(refit) < 0.7 * error(without_blocks(model, taken))
  # So they are measured, too.
  task = Classification(10)
  settings = SimpleNamespace(helper=SimpleNamespace(task=task))
  scene = Scene(model, {}, Reach('keep', ()), settings, 'macs', 'float', {}, ('blocks',))
  found = {one.name: one.losses[1] for one in block_choices(scene, images[:128], repair)}
  assert set(found) == {'one_add', 'two_add'}
  refit = refit_without_blocks(model, taken, Reach('keep', ()), repair.on_few(4))
  before, after = (net(images[:128], training=False) for net in (model, refit))
  assert found['one_add'] == pytest.approx(np.mean(task.divergence(before, after)), rel=1e-3)


@pytest.mark.parametrize(
  ('flags', 'text'),
  [
    ({'max_bytes': '1kB', 'max_ram': '1kB'}, 'are two limits'),
    ({'max_bytes': '1kB', 'max_drop': 0.02}, '--js_max_bytes and --js_max_drop are two limits'),
    ({'file': 'packed', 'minimise': 'latency'}, 'packed saves bytes'),
    ({'max_bytes': '1kB', 'max_drop': 0.01}, '--js_max_bytes and --js_max_drop are two limits'),
    ({'max_latency': '3ms', 'minimise': 'bytes'}, 'no effect beside --js_max_latency'),
    ({'weight_bits': 3}, '--js_weight_bits 3 has an effect only with --js_file packed'),
    ({'take': 'channels,zeros'}, 'no effect on zeros but in packed files: add --js_file packed'),
    ({'take': 'channels,colours'}, 'takes some of'),
    ({'time': 'soon'}, 'takes a number above zero'),
    ({'max_bytes': '200 apples'}, r'in one of B, kB, .*200 apples'),
    ({'max_bytes': '200kb'}, r'did you mean 200kB\?'),
  ],
)
def test_flags_that_do_not_fit_are_refused(flags, text):
  with pytest.raises(UserError, match=text):
    JsConfig(**flags)


def test_a_method_gives_way_to_a_limit_of_another_cost():
  settings = {'minimise': 'macs', 'take': 'blocks'}
  config = JsConfig(**JsConfig.with_settings(settings, {'max_bytes': '9kB'}))
  assert (config.cost, config.limit, config.kinds) == ('bytes', 9000, ('blocks',))
  assert JsConfig(**JsConfig.with_settings(settings, {})).cost == 'macs'
