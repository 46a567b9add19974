import dataclasses

import numpy as np
import pytest
from small_files import file_of, images, separable

from secateurs.utils.deploy.int8 import layer_errors as layer_errors_module
from secateurs.utils.deploy.int8 import running
from secateurs.utils.deploy.int8.layer_errors import (
  layer_errors,
  nb_images,
  relative_error,
  snr_db,
)
from secateurs.utils.deploy.int8.opened import OpenFile, with_kernels
from secateurs.utils.deploy.int8.operators import layer_of
from secateurs.utils.deploy.int8.running import Runner
from secateurs.utils.deploy.lowbits.ranges import activation_ranges
from secateurs.utils.errors import UserError


def names(model):
  return [layer.name for layer in model.layers]


def test_the_worst_layer_is_named_first(monkeypatch):
  pytest.importorskip('ai_edge_quantizer')
  model, inputs = separable(), images()
  kernel, bias = model.get_layer('pointwise').get_weights()
  kernel[..., 0] *= 200  # The outputs of one channel leave all others few steps.
  model.get_layer('pointwise').set_weights([kernel, bias])
  dense, bias = model.get_layer('logits').get_weights()
  dense[0] = 0
  model.get_layer('logits').set_weights([dense, bias])
  content = file_of(model)
  ranges, seen = activation_ranges(content, inputs), []

  def watch(items, total, work):
    seen.append((total, work))
    return items

  errors = layer_errors(content, ranges, inputs, names(model), watch=watch)
  assert seen == [(5, 'layers in 8 bits'), (5, 'all layers but one in 8 bits')]
  monkeypatch.setattr(layer_errors_module, 'NB_WORST', 2)
  late = layer_errors(content, ranges, inputs, known=errors.layers[::-1], seconds=0.0)
  again = [one.rest for one in errors.layers[::-1]]
  assert [one.rest for one in late.layers[:2]] == again[:2]
  unmeasured = [dataclasses.replace(one, rest=None) for one in errors.layers]
  late = layer_errors(content, ranges, inputs, known=unmeasured, seconds=0.0)
  assert [one.rest is None for one in late.layers] == [False, False, True, True, True]
  kinds = {one.layer: one.operator for one in errors.layers}
  assert kinds['relu_first'] == 'CONV_2D'
  assert kinds['relu_depthwise'] == 'DEPTHWISE_CONV_2D'
  assert errors.layers[0].layer in ('relu_pointwise', 'pool')
  assert errors.layers[0].alone > 10 * errors.layers[-1].alone
  assert [one.alone for one in errors.layers] == sorted(
    (one.alone for one in errors.layers), reverse=True
  )
  worst = next(one for one in errors.layers if one.layer == 'relu_first')
  assert 20 < worst.snr_db < 60  # 8 bits of a range of a few deviations: about 40 dB.


def test_divergence_of_nothing_is_nothing():
  values = images(3)
  np.testing.assert_allclose(relative_error(values, values), 0)
  np.testing.assert_allclose(
    relative_error(values, np.full_like(values, values.mean())).mean(), 1, 1e-4
  )


def test_signal_to_noise_by_hand():
  signal = np.array([1.0, -1.0, 1.0, -1.0], np.float32)
  assert snr_db(signal, signal + 0.1) == pytest.approx(20, abs=1e-4)
  assert snr_db(signal, signal) == 120
  assert snr_db(np.zeros(4), signal) == -120
  assert snr_db(np.zeros(4), np.zeros(4)) == 120  # A layer that gives nothing loses nothing.
  assert snr_db(signal, None) is None


def test_a_tensor_belongs_to_the_last_layer_that_it_mentions():
  assert layer_of('net/relu/Relu;net/bn/Fused;net/conv/Conv2D', ['conv', 'bn', 'relu']) == 'relu'
  assert layer_of('net/long/name;short', ['conv']) == 'short'


def test_a_runner_gives_what_the_network_gives(monkeypatch):
  model, inputs = separable(), images(5)
  runner = Runner(file_of(model), inputs)
  np.testing.assert_allclose(runner.outputs(), model(inputs).numpy(), atol=1e-4)
  assert runner.tensor('no such tensor') is None
  monkeypatch.setattr(running, 'MAX_BYTES', 2 * runner._sample_bytes() // 5)
  file = OpenFile(file_of(model))
  name = file.name(file.operators[0].outputs[0])
  pieces = Runner(file_of(model), images(6))
  assert [len(one[name]) for one in pieces.pieces([name])] == [2, 2, 2]
  whole = model(images(6)).numpy()
  np.testing.assert_allclose(pieces.outputs(), whole, atol=1e-4)
  assert len(pieces.tensor(name)) == 6


def test_pieces_are_of_equal_size():
  sizes = [running.samples_at_once(64, each << 20) for each in (1, 8, 9, 65, 1000)]
  assert sizes == [64, 64, 32, 4, 1]


def test_a_changed_constant_changes_one_operator_alone():
  model = separable()
  file = OpenFile(file_of(model))
  first = with_kernels(file)[0]
  bias = file.constant(first.inputs[2])
  file.set_input(first, 2, bias + 1)
  again = OpenFile(file.content())
  np.testing.assert_allclose(again.constant(with_kernels(again)[0].inputs[2]), bias + 1)
  others = [(with_kernels(one)[2]) for one in (OpenFile(file_of(model)), again)]
  before, after = (
    one.constant(op.inputs[2])
    for one, op in zip((OpenFile(file_of(model)), again), others, strict=True)
  )
  np.testing.assert_array_equal(before, after)


def test_big_networks_are_run_on_few_images():
  file = OpenFile(file_of(separable()))
  assert nb_images(file, 10) == 16
  assert nb_images(file, 10**9) == 2


def test_a_file_that_the_runtime_cannot_run_is_one_sentence():
  with pytest.raises(UserError, match=r'the installed runtime cannot run a file .* other files'):
    Runner(b'no file of TensorFlow Lite', np.zeros((1, 2), np.float32))
