"""Data sets with boxes: scenes of digits, VOC and COCO folders, augmentation."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secateurs.nets.datasets import coco, digit_scenes, voc
from secateurs.nets.datasets.box_augmentation import (
  SSD,
  BoxAugmentation,
  augmented,
  moved,
  read_window,
)
from secateurs.nets.datasets.boxed_images import BoxedImages
from secateurs.nets.datasets.boxed_split import make_split, object_rows
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.errors import UserError, told_in

SIZE = 60


def painted(rng, height=80, width=100):
  """A dark image with a red, a green and a blue rectangle side by side, and their objects."""
  image = np.full((height, width, 3), 20, np.uint8)
  rows = np.zeros((4, 8), np.float32)
  rows[:, 4] = -1
  for kind in range(3):
    left = 2 + kind * 33 + rng.integers(0, 8)
    top = rng.integers(2, 30)
    bottom, right = top + rng.integers(20, 45), left + rng.integers(12, 24)
    image[top:bottom, left:right, kind] = 230
    rows[kind, :5] = [top / height, left / width, bottom / height, right / width, kind]
  return image, rows


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_boxes_follow_what_they_surround(seed, zoomed):
  rng = np.random.default_rng(seed)
  image, rows = painted(rng)
  how = BoxAugmentation(expansion=1.0 if zoomed else 3.0, crop=True, flip=True)
  pixels, objects = augmented(image, rows, SIZE, how, [seed, 1])
  pixels, objects = pixels.numpy(), objects.numpy()
  assert pixels.shape == (SIZE, SIZE, 3)
  assert (objects[:, 4] >= 0).any()
  np.testing.assert_array_equal(objects[:, 5:], rows[:, 5:])
  for kind in range(3):
    seen = (pixels[..., kind] > 180) & (np.delete(pixels, kind, -1).max(-1) < 100)
    there = objects[kind, 4] >= 0
    assert there or objects[kind, 4] == -1
    if not there:
      continue
    assert objects[kind, 4] == kind
    box = objects[kind, :4] * SIZE
    assert (box >= 0).all()
    assert (box <= SIZE).all()
    assert (box[2:] > box[:2]).all()
    where = np.argwhere(seen)
    if min(box[2:] - box[:2]) < 4:
      continue
    found = np.concatenate([where.min(0), where.max(0) + 1])
    np.testing.assert_allclose(found, box, atol=1.6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_objects_are_kept_if_their_centre_is_in_the_window(seed):
  rng = np.random.default_rng(seed)
  _, rows = painted(rng)
  low = rng.random(2) * 0.5
  window = np.concatenate([low, low + 0.2 + rng.random(2)]).astype(np.float32)
  found = moved(tf.constant(rows), tf.constant(window)).numpy()
  centres = (rows[:, :2] + rows[:, 2:4]) / 2
  inside = ((centres > window[:2]) & (centres < window[2:])).all(1) & (rows[:, 4] >= 0)
  np.testing.assert_array_equal(found[:, 4] >= 0, inside)
  twice = moved(moved(tf.constant(rows), window, True), np.float32([0, 0, 1, 1]), True).numpy()
  np.testing.assert_allclose(twice, found, atol=1e-6)  # Mirrored twice is not mirrored.


def test_the_whole_window_is_the_image_and_outside_is_grey():
  image = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
  np.testing.assert_allclose(read_window(image, np.float32([0, 0, 1, 1]), 6), image, atol=1e-4)
  mirrored = read_window(image, np.float32([0, 0, 1, 1]), 6, True)
  np.testing.assert_allclose(mirrored, image[:, ::-1], atol=1e-4)
  wide = read_window(image, np.float32([-0.5, -0.5, 1.5, 1.5]), 12).numpy()
  np.testing.assert_allclose(wide[3:9, 3:9], image, atol=1e-4)
  assert (wide[:3] == 118).all()


def test_colours_change_pixels_and_no_boxes():
  image, rows = painted(np.random.default_rng(0))
  how = BoxAugmentation(colours=True)
  same = 0
  for seed in range(30):
    pixels, objects = augmented(image, rows, SIZE, how, [seed, 0])
    np.testing.assert_array_equal(objects, rows)
    assert pixels.numpy().min() >= 0
    assert pixels.numpy().max() <= 255
    same += bool(np.allclose(pixels, read_window(image, np.float32([0, 0, 1, 1]), SIZE), atol=0.6))
  assert same < 15


def test_restrictions():
  assert SSD.only('all') == SSD
  assert SSD.only('mirror') == BoxAugmentation(flip=True)
  assert SSD.only('none') == BoxAugmentation()


@pytest.fixture(scope='module')
def scenes():
  return digit_scenes.load(digit_scenes.DigitScenesConfig(nb_smpls_val=100))


def test_digit_scenes_are_complete_and_always_the_same(scenes):
  assert [scenes.nb_samples(s) for s in ('train', 'val', 'eval')] == [1900, 100, 500]
  assert scenes.image_shape == (96, 96, 3)
  split = scenes.splits['train']
  boxes = split.objects[:, :4]
  assert (boxes >= 0).all()
  assert (boxes <= 1).all()
  assert ((boxes[:, 2:] - boxes[:, :2]).min(0) > [10 / 96, 2.5 / 96]).all()  # Of a slim 1.
  assert set(split.objects[:, 4]) == set(range(10))
  counts = np.diff(split.offsets)
  assert counts.min() >= 1
  assert counts.max() == 6
  glyphs = np.zeros((1, 8, 8), np.uint8)
  glyphs[0, 1:7, 3:5] = 255
  one, other = (digit_scenes.scene(glyphs, 96, np.random.default_rng(3)) for _ in range(2))
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a, b)


def test_boxes_of_digit_scenes_are_exact():
  glyphs = np.full((1, 8, 8), 255, np.uint8)
  for seed in range(10):
    rng = np.random.default_rng(seed)
    plain = digit_scenes.canvas(96, np.random.default_rng(seed))
    image, boxes, _ = digit_scenes.scene(glyphs, 96, rng)
    changed = np.abs(image - plain).max(-1) > 35
    inside = np.zeros((96, 96), bool)
    for top, left, bottom, right in (boxes * 96).round().astype(int):
      inside[top:bottom, left:right] = True
    assert (changed & ~inside).sum() <= 3  # Noise.
    assert changed[inside].mean() > 0.9


def batches(data, nb, **options):
  return [tuple(x.numpy() for x in b) for b in data.train_batches(4, 7, **options).take(nb)]


def test_batches_depend_on_seed_step_and_shard_alone(scenes):
  whole = batches(scenes, 3)
  images, objects = whole[0]
  assert images.dtype == objects.dtype == np.float32
  assert images.shape == (4, 96, 96, 3)
  assert objects.shape == (4, 6, 8)
  for a, b in zip(batches(scenes, 1, start=2)[0], whole[2], strict=True):
    np.testing.assert_array_equal(a, b)
  for rank in range(2):
    part = [x.numpy() for x in next(iter(scenes.train_batches(2, 7, shard=(rank, 2))))]
    for a, b in zip(part, whole[0], strict=True):
      np.testing.assert_array_equal(a, b[2 * rank : 2 * rank + 2])
  still = batches(scenes, 1, augment='none')[0]
  assert not np.array_equal(still[0], images)


def test_evaluation_has_every_sample_once(scenes):
  parts = [list(scenes.eval_batches('eval', 64, shard=(r, 3))) for r in range(3)]
  sizes = [sum(len(x) for x, _ in part) for part in parts]
  assert sizes == [167, 167, 166]
  _, objects = parts[1][0]
  split = scenes.splits['eval']
  first = split.of_image(1)
  np.testing.assert_array_equal(objects[0][: len(first)], first)
  assert (objects.numpy()[0, len(first) :, 4] == -1).all()
  assert (objects.numpy()[..., 7] == 96**2).all()
  images = scenes.calibration_images(10)
  assert images.shape == (10, 96, 96, 3)
  assert abs(images.mean()) < 1.5


def write_jpeg(path, height, width, rng):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)


VOC_OBJECT = (
  '<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>'
  '<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
)


@pytest.fixture(scope='module')
def voc_folder(tmp_path_factory):
  root, rng = tmp_path_factory.mktemp('voc'), np.random.default_rng(0)
  for year, name, numbers in (('VOC2007', 'trainval', (1, 2, 3)), ('VOC2007', 'test', (4, 5))):
    base = root / 'VOCdevkit' / year
    lists = base / 'ImageSets' / 'Main'
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f'{name}.txt').write_text(''.join(f'{n:06}\n' for n in numbers))
    (base / 'Annotations').mkdir(exist_ok=True)
    for n in numbers:
      write_jpeg(base / 'JPEGImages' / f'{n:06}.jpg', 40, 50, rng)
      things = VOC_OBJECT.format('dog', 0, 11, 9, 20, 16) + VOC_OBJECT.format(
        'cat', 1, 1, 1, 50, 40
      )
      (base / 'Annotations' / f'{n:06}.xml').write_text(
        f'<annotation><size><width>50</width><height>40</height></size>{things}</annotation>'
      )
  return root


def test_voc_folders(voc_folder):
  config = voc.VocConfig(
    data_dir_local=str(voc_folder), image_size=32, voc_train='VOC2007/trainval'
  )
  data = voc.load(config)
  assert data.nb_samples('train') == 3
  assert data.nb_classes == 20
  ((images, objects),) = data.eval_batches('eval', 8)
  assert images.shape == (2, 32, 32, 3)
  dog, cat = voc.CLASSES.index('dog'), voc.CLASSES.index('cat')
  # Pixels 11 to 20 of 50 and 9 to 16 of 40, both ends included.
  np.testing.assert_allclose(objects[0, 0], [8 / 40, 0.2, 0.4, 0.4, dog, 0, 80, 2000], rtol=1e-5)
  np.testing.assert_allclose(objects[0, 1], [0, 0, 1, 1, cat, 1, 2000, 2000], rtol=1e-5)
  images, objects = next(iter(data.train_batches(3, 0)))
  assert images.shape == (3, 32, 32, 3)
  assert objects.shape == (3, 2, 8)
  with pytest.raises(UserError, match=r'--voc_train names VOC2012/trainval'):
    voc.load(voc.VocConfig(data_dir_local=str(voc_folder)))


def test_a_voc_list_without_objects_to_find_is_refused(voc_folder, tmp_path):
  shutil.copytree(voc_folder, tmp_path / 'voc')
  for path in (tmp_path / 'voc').rglob('*.xml'):
    path.write_text(path.read_text().replace('<difficult>0', '<difficult>1'))
  config = voc.VocConfig(data_dir_local=str(tmp_path / 'voc'), voc_train='VOC2007/trainval')
  with pytest.raises(UserError, match=r"No image of --voc_eval 'VOC2007/test' has an object"):
    voc.load(config)


def test_a_damaged_annotation_is_named(voc_folder, tmp_path):
  base = tmp_path / 'VOC2007'
  (base / 'ImageSets' / 'Main').mkdir(parents=True)
  (base / 'ImageSets' / 'Main' / 'test.txt').write_text('000001\n')
  (base / 'Annotations').mkdir()
  config = voc.VocConfig(data_dir_local=str(tmp_path), voc_train='VOC2007/test')
  flat = '<annotation><size><width>50</width><height>0</height></size></annotation>'
  size = '<size><width>50</width><height>40</height></size>'
  endless = f'<annotation>{size}{VOC_OBJECT.format("dog", 0, 1, "nan", 2, 2)}</annotation>'
  swapped = f'<annotation>{size}{VOC_OBJECT.format("dog", 0, 9, 1, 2, 2)}</annotation>'
  huge = f'<annotation><size><width>{"9" * 400}</width><height>40</height></size></annotation>'
  unknown = VOC_OBJECT.format('unicorn', 0, 1, 1, 2, 2)
  for text in ('<annotation>', unknown, flat, endless, swapped, huge):
    (base / 'Annotations' / '000001.xml').write_text(text)
    with pytest.raises(UserError, match=r'000001.xml is no annotation'):
      voc.load(config)


@pytest.fixture(scope='module')
def coco_folder(tmp_path_factory):
  root, rng = tmp_path_factory.mktemp('coco'), np.random.default_rng(0)
  categories = [{'id': 7, 'name': 'tree'}, {'id': 3, 'name': 'car'}]
  for split in ('train2017', 'val2017'):
    images = [{'id': n, 'file_name': f'{n}.jpg', 'height': 40, 'width': 50} for n in (5, 2)]
    boxes = {'image_id': 5, 'bbox': [10, 8, 10, 8], 'category_id': 7, 'area': 60, 'iscrowd': 0}
    crowd = {'image_id': 5, 'bbox': [0, 0, 50, 40], 'category_id': 3, 'area': 900, 'iscrowd': 1}
    for n in (5, 2):
      write_jpeg(root / split / f'{n}.jpg', 40, 50, rng)
    (root / 'annotations').mkdir(exist_ok=True)
    (root / 'annotations' / f'instances_{split}.json').write_text(
      json.dumps({'images': images, 'categories': categories, 'annotations': [boxes, crowd]})
    )
  return root


def test_coco_folders(coco_folder):
  data = coco.load(coco.CocoConfig(data_dir_local=str(coco_folder), image_size=32))
  assert data.class_names == ['car', 'tree']
  assert [data.nb_samples(s) for s in ('train', 'eval')] == [1, 2]  # One image has no object.
  ((images, objects),) = data.eval_batches('eval', 8)
  assert images.shape == (2, 32, 32, 3)
  assert objects[0, :, 4].numpy().tolist() == [-1, -1]
  np.testing.assert_allclose(objects[1, 0], [0.2, 0.2, 0.4, 0.4, 1, 0, 60, 2000], rtol=1e-5)
  np.testing.assert_allclose(objects[1, 1], [0, 0, 1, 1, 0, 1, 900, 2000], rtol=1e-5)
  _, objects = next(iter(data.train_batches(1, 0, augment='none')))
  assert objects[0, :, 4].numpy().tolist() == [1, -1]  # The crowd is not learned.


def test_a_missing_or_damaged_coco_file_is_named(coco_folder, tmp_path):
  with pytest.raises(UserError, match=r'there is no .*instances_val2014.json'):
    coco.load(coco.CocoConfig(data_dir_local=str(coco_folder), coco_eval='val2014'))
  (tmp_path / 'annotations').mkdir()
  (tmp_path / 'annotations' / 'instances_train2017.json').write_text('{}')
  with pytest.raises(UserError, match='no file of COCO annotations'):
    coco.load(coco.CocoConfig(data_dir_local=str(tmp_path)))


@pytest.mark.parametrize(
  ('image', 'box', 'problem'),
  [
    ({'height': 0}, {}, 'image 5 is 0 x 50 pixels'),
    ({'width': None}, {}, 'image 5 is 40 x None pixels'),
    ({'width': 10**400}, {}, 'image 5 is 40 x 10+ pixels'),
    ({}, {'bbox': [1, 2, float('nan'), 3]}, 'a box of image 5 is not finite'),
    ({}, {'area': float('nan')}, 'an area of image 5 is none'),
    ({}, {'area': -1}, 'an area of image 5 is none'),
    ({}, {'category_id': 9}, 'annotation 0 has the category_id 9, which no category has'),
    ({}, {'id': 11, 'category_id': 9}, 'annotation 11 has the category_id 9'),
  ],
)
def test_coco_images_and_boxes_that_are_none(coco_folder, tmp_path, image, box, problem):
  path = coco_folder / 'annotations' / 'instances_train2017.json'
  content = json.loads(path.read_text())
  content['images'][0] |= image
  content['annotations'][0] |= box
  (tmp_path / 'annotations').mkdir()
  (tmp_path / 'annotations' / path.name).write_text(json.dumps(content))
  with pytest.raises(UserError, match=rf'no file of COCO annotations \(ValueError: {problem}'):
    coco.load(coco.CocoConfig(data_dir_local=str(tmp_path)))


@pytest.mark.parametrize('field', ['image_id', 'category_id', 'bbox'])
def test_a_field_that_a_coco_annotation_lacks_is_named(coco_folder, tmp_path, field):
  path = coco_folder / 'annotations' / 'instances_train2017.json'
  content = json.loads(path.read_text())
  del content['annotations'][1][field]
  (tmp_path / 'annotations').mkdir()
  (tmp_path / 'annotations' / path.name).write_text(json.dumps(content))
  with pytest.raises(UserError, match=rf'annotation 1 has no {field}\), but images'):
    coco.load(coco.CocoConfig(data_dir_local=str(tmp_path)))


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('change', [{'image_id': '5'}, {'iscrowd': 1}])
def test_coco_splits_without_boxes_that_count_are_refused(coco_folder, tmp_path, split, change):
  shutil.copytree(coco_folder, tmp_path / 'coco')
  path = tmp_path / 'coco' / 'annotations' / f'instances_{split}2017.json'
  content = json.loads(path.read_text())
  for one in content['annotations']:
    one |= change
  path.write_text(json.dumps(content))
  with pytest.raises(UserError, match=rf'No image of {split}2017 has a box that counts'):
    coco.load(coco.CocoConfig(data_dir_local=str(tmp_path / 'coco'), image_size=32))


@pytest.mark.parametrize('name', [7, None, '\ud800'])
def test_coco_classes_without_a_name(coco_folder, tmp_path, name):
  path = coco_folder / 'annotations' / 'instances_train2017.json'
  content = json.loads(path.read_text())
  content['categories'][0]['name'] = name
  (tmp_path / 'annotations').mkdir()
  (tmp_path / 'annotations' / path.name).write_text(json.dumps(content))
  with pytest.raises(UserError, match='no file of COCO annotations'):
    coco.load(coco.CocoConfig(data_dir_local=str(tmp_path)))


def test_boxed_images_are_checked_and_named(coco_folder, tmp_path, monkeypatch):
  shutil.copytree(coco_folder, tmp_path / 'coco')
  path, rng = tmp_path / 'coco' / 'val2017' / '5.jpg', np.random.default_rng(0)
  config = coco.CocoConfig(data_dir_local=str(tmp_path / 'coco'), image_size=32)
  write_jpeg(path, 1200, 1600, rng)
  data = coco.load(config)
  image, _ = data._sample('eval', tf.constant(1, tf.int64))
  assert image.shape == (150, 200, 3)
  path.write_bytes(path.read_bytes()[:-2000])
  with pytest.raises(tf.errors.OpError) as raised:
    list(data.eval_batches('eval', 4))
  assert str(told_in(raised.value)).startswith(f'{path} cannot be decoded')
  train = tmp_path / 'coco' / 'train2017' / '5.jpg'
  train.unlink()
  with pytest.raises(tf.errors.OpError) as raised:
    next(iter(data.train_batches(1, 0)))
  assert str(told_in(raised.value)).startswith(f'{train} cannot be decoded')
  with pytest.raises(UserError, match=r'5.jpg is not a usable image \(it is gone\)'):
    coco.load(config)


def test_images_without_objects_pass():
  images = np.zeros((4, 32, 32, 3), np.uint8)
  rows = [object_rows(np.zeros((0, 4)), np.zeros(0), 32 * 32)] * 4
  split = make_split(images, rows, np.full(4, 32 * 32))
  data = BoxedImages('none', 32, ['a'], split, split, DataConfig(), SSD)
  _, objects = next(iter(data.train_batches(4, 0)))
  assert objects.shape == (4, 1, 8)
  assert (objects.numpy()[..., 4] == -1).all()
