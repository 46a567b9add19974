import pytest
import tf_keras as keras

from secateurs.nets.datasets import cifar10
from secateurs.nets.datasets.source import DataConfig
from secateurs.nets.lenet import lenet
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import count
from secateurs.utils.training.models.weight_files import read_weights
from secateurs.utils.training.models.weights import assign_weights, named_weights
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.evaluation import evaluate


def macs_by_hand(size, projections):
  """Stem, then per stage 2n convs of which the first of stages 2 and 3 reads half the channels."""
  n = (size - 2) // 6
  total = 32 * 32 * 9 * 3 * 16
  for side, width, before in ((32, 16, 16), (16, 32, 16), (8, 64, 32)):
    total += side * side * 9 * width * (before + (2 * n - 1) * width)
    if projections and width != before:
      total += side * side * width * before
  return total + 64 * 10


@pytest.mark.parametrize('size', [20, 32, 44, 56, 110])
def test_macs(size):
  assert count(cifar_resnet(size)).macs == macs_by_hand(size, projections=True)


def test_published_count():
  assert macs_by_hand(20, projections=False) == 40_551_040
  assert macs_by_hand(20, projections=True) == 40_813_184


def test_names_and_strides():
  model = cifar_resnet(20)
  names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
  expected = ['stem_conv']
  for stage in (1, 2, 3):
    for block in (1, 2, 3):
      expected += [f'stage{stage}_block{block}_conv{i}' for i in (1, 2)]
      if stage > 1 and block == 1:
        expected.append(f'stage{stage}_block{block}_shortcut_conv')
  assert sorted(names) == sorted(expected)
  assert model.get_layer('stage2_block1_conv1').padding == 'valid'
  assert model.get_layer('stage2_block1_conv1_pad').padding == ((1, 1), (1, 1))
  assert model.get_layer('stage3_block2_bn2').epsilon == 1e-5
  assert model.output_shape == (None, 10)


def test_unknown_size():
  with pytest.raises(UserError, match='--resnet_size takes one of 20, 32, 44, 56, 110, 164'):
    cifar_resnet(21)


def test_lenet_has_its_parameters():
  assert lenet().count_params() == 62_006


@pytest.mark.slow
@pytest.mark.parametrize(('size', 'accuracy'), [(20, 0.8816), (56, 0.8993)])
def test_trained_weights_give_their_accuracy(cifar10_folder, trained_weights, size, accuracy):
  data = cifar10.load(DataConfig(data_dir_local=str(cifar10_folder)))
  model = cifar_resnet(size)
  path = trained_weights / f'resnet{size}_cifar10.npz'
  assign_weights(named_weights(model), read_weights(path), str(path))
  found = evaluate(model, data.eval_batches('eval', 500), Classification(10))
  assert found.nb_samples == 10_000
  assert found.score.value == pytest.approx(accuracy, abs=5e-4)
