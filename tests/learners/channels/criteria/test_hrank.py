"""Lists of HRank and HRankPlus: golden widths of the published networks."""

import numpy as np
import pytest

from secateurs.learners.channels.allocation.ratios import read_numbers, read_ratios
from secateurs.learners.channels.criteria.hrank import adapt_channel, convolutions, hrank_counts
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.cuts.shortcuts import deciders, residual_additions
from secateurs.nets.resnet import cifar_resnet, imagenet_resnet
from secateurs.nets.vgg import vgg16
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, slice_model

RESNET50 = '[0.0]+[0.24]*3+[0.7]*7+[0.45]*9'
OVERALL = [64, *[194] * 3, *[389] * 4, *[778] * 6, *[2048] * 3]
MID = [*[19] * 3, *[38] * 4, *[140] * 6, *[281] * 3]


@pytest.fixture(scope='module')
def resnet50():
  return ChannelGraph(imagenet_resnet(50, (32, 32, 3), 10))


@pytest.fixture(scope='module')
def resnet56():
  return ChannelGraph(cifar_resnet(56))


def numbers(tmp_path, text):
  path = tmp_path / 'rates.txt'
  path.write_text(text)
  return read_numbers(str(path), 'fp_prune_list_file')


def test_adapt_channel_gives_the_printed_lists(tmp_path):
  rates = numbers(tmp_path, 'compress_rate\n'.replace('compress_rate', '# of ResNet-50') + RESNET50)
  assert len(rates) == 20
  out = [64, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 3]
  mid = [*[64] * 3, *[128] * 4, *[256] * 6, *[512] * 3]
  assert adapt_channel(rates, [3, 4, 6, 3], out, mid) == (OVERALL, MID)


def test_a_list_of_any_length_is_read_in_little_memory(tmp_path):
  assert len(numbers(tmp_path, f'[0.1]*{"9" * 5000}+[0.2]*3')) == 99_999 + 3


def test_a_list_of_hrank_plus_makes_that_network(resnet50, tmp_path):
  units = filter_units(resnet50, 'couple').units
  counts = hrank_counts(resnet50, units, numbers(tmp_path, RESNET50), 'hrank-plus', '--x')
  keep = {unit.key: np.arange(counts[unit.name]) for unit in units}
  slim = slice_model(resnet50, keep)
  blocks = [f'stage{s}_block{b}' for s, n in enumerate((3, 4, 6, 3), 1) for b in range(1, n + 1)]
  found = [slim.get_layer(f'{block}_conv3').filters for block in blocks]
  assert [slim.get_layer('stem_conv').filters, *found] == OVERALL
  for number in (1, 2):
    assert [slim.get_layer(f'{block}_conv{number}').filters for block in blocks] == MID


def test_lists_of_hrank(resnet50, resnet56):
  published = [0.1] + [0.6] * 35 + [0] * 2 + [0.6] * 6 + [0.4] * 3 + [0.1, 0.4] * 4
  units = filter_units(resnet56, 'keep').units
  inner = [0.0] * 55
  inner[1::2] = published[1::2]  # The first convolution of each block.
  counts = hrank_counts(resnet56, units, inner, 'hrank', '--x')
  sizes = [16] * 9 + [32] * 9 + [64] * 9
  expected = [c - int(c * rate) for c, rate in zip(sizes, inner[1::2])]
  assert list(counts.values()) == expected
  joint = hrank_counts(resnet56, filter_units(resnet56, 'couple').units, published, 'hrank', '--x')
  assert joint['stem_conv'] == 16 - int(16 * 0.1)  # The least rate of all that make the sum.
  rates = [0.2] + [0.8] * 10 + [0.8] * 13 + [0.55] * 19 + [0.45] * 10
  names = convolutions(resnet50, residual_additions(resnet50), True)
  assert len(names) == len(rates) == 53
  assert names[:5] == [
    'stem_conv',
    'stage1_block1_conv1',
    'stage1_block1_conv2',
    'stage1_block1_conv3',
    'stage1_block1_shortcut_conv',
  ]


def test_hrank_plus_on_resnet56_and_vgg(resnet56):
  units = filter_units(resnet56, 'couple').units
  rates = [0.0] + [0.15] * 2 + [0.4] * 27
  counts = hrank_counts(resnet56, units, rates, 'hrank-plus', '--x')
  trunks = [counts[unit.name] for unit in units if not unit.name.endswith('conv1')]
  assert trunks == [13, 27, 64]
  assert counts['stage2_block3_conv1'] == int(32 * 0.6)
  graph = ChannelGraph(vgg16((32, 32, 3), 10, hidden=(512,)))
  rates = [0.95] + [0.5] * 6 + [0.9] * 4 + [0.8] * 2
  units = filter_units(graph, 'keep').units
  counts = hrank_counts(graph, units, rates, 'hrank', '--x')
  assert list(counts.values())[:2] == [64 - int(64 * 0.95), 32]
  assert counts['fc6'] == 512


def test_wrong_lists(resnet56, tmp_path):
  units = filter_units(resnet56, 'couple').units
  with pytest.raises(UserError, match=r'holds 3 rates, but 30 were expected.*stem_conv \(16\)'):
    hrank_counts(resnet56, units, [0.1] * 3, 'hrank-plus', '--x')
  with pytest.raises(UserError, match=r'leaves nothing of stage1_block1_conv1, which has 16'):
    hrank_counts(resnet56, units, [0.0] * 3 + [0.99] * 27, 'hrank-plus', '--x')
  keep = filter_units(resnet56, 'keep').units
  with pytest.raises(UserError, match=r'prunes \w+, whose channels .* add --fp_trunk couple'):
    hrank_counts(resnet56, keep, [0.0] + [0.5] * 29, 'hrank-plus', '--x')
  for text, said in (('[0.1]*', r"contains '\[0.1\]\*'"), ('[0.5]+x', "contains 'x'")):
    with pytest.raises(UserError, match=said):
      numbers(tmp_path, text)
  (tmp_path / 'short').write_text('0.5 0.5')
  with pytest.raises(UserError, match=r'2 ratios, but 27 were expected.*_conv1 \(16\)'):
    read_ratios(str(tmp_path / 'short'), keep, 'fp_prune_list_file', 'filters')


def test_the_shortcut_decides(resnet50, resnet56):
  assert deciders(resnet50) == {f'stage{s}_block1_shortcut_conv' for s in (1, 2, 3, 4)}
  # Stage 1 of a CIFAR ResNet has no projection: the stem opens its shortcut's path.
  assert deciders(resnet56) == {
    'stem_conv',
    'stage2_block1_shortcut_conv',
    'stage3_block1_shortcut_conv',
  }
