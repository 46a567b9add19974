"""What tasks show of single samples: the data, and drawings that a page can hold."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics

from secateurs.utils.deploy.pages.pictures import draw_picture
from secateurs.utils.training.tasks.pictures import boxed, curve, roc
from secateurs.utils.training.tasks.regression import Regression
from secateurs.utils.training.tasks.segmentation import Segmentation
from secateurs.utils.training.tasks.several import SeveralOutputs
from secateurs.utils.training.tasks.sigmoids import Binary

RNG = np.random.default_rng(0)


def numbers(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def test_the_roc_curve_is_that_of_scikit_learn():
  wanted, found = RNG.integers(0, 2, 50) > 0, numbers(50).round(1)
  points = curve(wanted, found)
  false, true, _ = metrics.roc_curve(wanted, found, drop_intermediate=False)
  np.testing.assert_allclose(points, np.stack([false, true], 1))
  assert roc(np.ones(5), numbers(5), numbers(5)) is None


CASES = {
  'regression': (Regression((2,)), numbers(20, 3), numbers(20, 2), '<svg'),
  'binary': (Binary((1,)), numbers(20, 3), RNG.integers(0, 2, (20, 1)), '<svg'),
  'segmentation': (
    Segmentation((8, 8, 3)), numbers(20, 8, 8, 1), RNG.integers(0, 4, (20, 8, 8)), '<img'
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_each_picture_is_drawn(name):
  task, inputs, targets, tag = CASES[name]
  before, after = numbers(20, *task.shape), numbers(20, *task.shape)
  (picture,) = task.pictures(inputs, targets, before, after)
  drawing = draw_picture(picture)
  assert drawing['title'] == picture.title
  assert drawing['plot'].lstrip().startswith(tag)
  assert draw_picture(picture) == drawing
  if name == 'segmentation':
    assert {len(picture.data[key]) for key in ('images', 'targets', 'before', 'after')} == {6}
    np.testing.assert_array_equal(picture.data['after'], after[:6].argmax(-1))


def test_names_of_classes_are_neither_formulas_nor_markup():
  objects = np.zeros((1, 1, 8))
  objects[0, 0, :5] = 0.1, 0.1, 0.6, 0.6, 0
  picture = boxed(
    numbers(1, 16, 16, 3), objects, np.zeros((1, 0, 6)), np.zeros((1, 0, 6)), ['$\\x{$']
  )
  drawing = draw_picture(dataclasses.replace(picture, title='"><script>'))
  assert drawing['plot'].startswith('<img alt="&quot;&gt;&lt;script&gt;: objects')


def test_no_picture_where_nothing_can_be_shown():
  other_size = Segmentation((8, 8, 3)).pictures(numbers(9, 4, 4, 1), np.zeros((9, 8, 8)), 0, 0)
  assert other_size == []
  assert not Segmentation((8, 3)).draws


def test_several_outputs_name_theirs():
  task = SeveralOutputs({'age': Regression((2,)), 'mood': Binary((1,))})
  _, inputs, ages, _ = CASES['regression']
  moods = CASES['binary'][2]
  outputs = (numbers(20, 2), numbers(20, 1))
  found = task.pictures(inputs, (ages, moods), outputs, outputs)
  assert [one.title for one in found] == ['Predictions: age', 'ROC curves: mood']
