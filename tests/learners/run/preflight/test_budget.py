"""How a run divides its memory, and what it says and refuses before it begins."""

from pathlib import Path

import pytest
import tensorflow as tf

from secateurs.learners.run.preflight import estimate
from secateurs.learners.run.preflight.budget import Budget, extra_bytes, pieces_note
from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.memory import MapBytes

MB, GB = 1 << 20, 1 << 30
MAPS = MapBytes(training=56 * MB, inference=10 * MB, largest=4 * MB)


def budget(limit, weights=100 * MB):
  return Budget(limit, weights, Path('.'))


def test_batches_are_cut_into_as_few_pieces_as_fit():
  # 6 GB less 1.3 GB and thirteen copies of the weights leave 3544 MB: 44 samples of 80 MB.
  assert [budget(6 * GB).pieces(MAPS, n) for n in (16, 44, 45, 256)] == [1, 1, 2, 6]
  assert budget(6 * GB).pieces(MAPS, 40, caches=True) == 2
  assert budget(6 * GB).pieces(MAPS, 40, also=10 * MB) == 2
  assert budget(1 * GB).pieces(MAPS, 16) == 16  # Sample by sample, whatever it takes.


def test_samples_in_memory_leave_less_for_a_step():
  held = Budget(6 * GB, 100 * MB, Path('.'), data=GB)
  assert held.taken - budget(6 * GB).taken == GB
  assert held.pieces(MAPS, 40) == 2


def test_variables_that_train_with_the_network_count_with_their_gradients_and_slots():
  gates = tf.Variable(tf.zeros([25, MB // 4]))
  masks = tf.Variable(tf.zeros([3, MB // 4]), trainable=False)
  assert extra_bytes([gates, masks]) == (4 * 25 + 3) * MB
  gated = Budget(6 * GB, 100 * MB, Path('.'), extra=extra_bytes([gates] * 20))
  assert gated.taken - budget(6 * GB).taken == 4 * 500 * MB
  assert gated.pieces(MAPS, 40) == 3  # 1544 MB are left: 19 samples of 80 MB.


@pytest.mark.parametrize('shared', [False, True])
def test_the_estimate_names_the_work_that_takes_most(monkeypatch, shared):
  """What training took is there for exporting, unless TensorFlow keeps it for itself."""
  monkeypatch.setattr(estimate.memory, 'is_shared', lambda: shared)
  roomy = budget(8 * GB)
  training = estimate.of_training(roomy, MAPS, 32)
  needs = [
    training,
    estimate.of_measuring(roomy, MAPS, [training]),
    estimate.of_layers(roomy, MAPS, 16, cache=1 * GB),
    estimate.of_least_squares(roomy, MAPS, rows=4608, cache=1 * GB),
  ]
  few, many = (estimate.of_quantising(roomy, size, [training]) for size in (1 * MB, 2 * GB))
  taken = roomy.taken
  held = taken if shared else training.bytes
  assert few.bytes - held == 2 * (64 + 100) * MB + 256 * MB
  assert many.bytes - held == 2 * (2048 + 100) * MB + 256 * MB
  assert [need.bytes - taken for need in needs] == [
    32 * 80 * MB,
    held - taken + 700 * MB,
    GB + 16 * 80 * MB,
    6 * 8 * 4608**2 + 256 * MB + GB,
  ]
  most = '4.4 GB at the most, for training' if shared else '5.0 GB at the most, for exporting'
  assert estimate.describe(needs, 8 * GB, True) == (
    f'Memory: about {most}; --max_memory_mb allows 8.0 GB.'
  )
  estimate.require_fit(needs, 8 * GB, True)
  taught = estimate.of_training(roomy, MAPS, 32, also=10 * MB, held=100 * MB)
  assert taught.bytes - training.bytes == 32 * 10 * MB + 100 * MB
  assert taught.least - training.least == 10 * MB + 100 * MB


def test_what_cannot_fit_is_refused_with_the_flag():
  tight = budget(2 * GB)
  training = estimate.of_training(tight, MAPS, 32)
  needs = [training, estimate.of_measuring(tight, MAPS, [])]
  with pytest.raises(UserError, match=r'^Exporting takes about 2\d\d\d MB .* allows 2048: give'):
    estimate.require_fit(needs, 2 * GB, True)


def test_files_of_a_small_network_take_more_copies_of_fewer_weights():
  """The converter freezes those in memory."""
  large, small = budget(8 * GB), budget(8 * GB, weights=10 * MB)
  assert (large.exporting, small.exporting) == (700 * MB, 150 * MB)


def test_without_the_flag_all_that_is_free_counts(monkeypatch):
  tight = budget(2 * GB)
  needs = [estimate.of_measuring(tight, MAPS, [])]
  monkeypatch.setattr(estimate.memory, 'free', lambda: 8 * GB)
  estimate.require_fit(needs, 2 * GB, False)
  monkeypatch.setattr(estimate.memory, 'free', lambda: 0)
  monkeypatch.setattr(estimate.memory, 'resident', lambda: GB)
  with pytest.raises(UserError, match='but 0 are free'):
    estimate.require_fit(needs, 2 * GB, False)


def test_a_run_in_pieces_says_what_normalisation_sees():
  assert 'statistics' in pieces_note(256, 8, has_norms=True)
  assert pieces_note(256, 8, has_norms=False) == (
    'Batches of 256 are run in 8 pieces of about 32 samples, so that a step fits into the memory '
    '(--max_memory_mb).'
  )
