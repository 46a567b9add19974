import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from secateurs.nets.datasets import image_folder
from secateurs.nets.datasets.crops import central_crop, decode_window, random_crop
from secateurs.nets.datasets.image_folder import ImageFolderConfig
from secateurs.utils.errors import UserError, told_in


def fill(folder, colour, nb=5, size=(20, 30), ending='png'):
  folder.mkdir(parents=True, exist_ok=True)
  for i in range(nb):
    Image.new('RGB', size, colour).save(folder / f'{i}.{ending}')


@pytest.fixture
def root(tmp_path):
  fill(tmp_path / 'blue', (0, 0, 255))
  fill(tmp_path / 'red', (255, 0, 0), ending='jpg')
  return tmp_path


def load(root, **options):
  return image_folder.load(ImageFolderConfig(data_dir_local=str(root), image_size=16, **options))


def test_classes_splits_and_pixels(root):
  data = load(root)
  assert data.class_names == ['blue', 'red']
  assert (data.nb_samples('train'), data.nb_samples('eval')) == (8, 2)
  split = data.splits['train']
  assert split.images.shape == (8, 16, 16, 3)
  np.testing.assert_array_equal(split.images[split.labels == 0][0, 5, 5], [0, 0, 255])


def test_decoding_is_traced_once(root, monkeypatch):
  traced, decode = [], image_folder.decode_image
  monkeypatch.setattr(
    image_folder, 'decode_image', lambda path, shape: traced.append(shape) or decode(path, shape)
  )
  for _ in range(2):
    data = image_folder.load(ImageFolderConfig(data_dir_local=str(root)), (15, 17, 3))
  assert traced == [(15, 17, 3)]
  assert data.splits['eval'].images.shape == (2, 15, 17, 3)


def test_adding_an_image_moves_no_other(root):
  before = load(root)
  fill(root / 'red', (250, 0, 0), nb=6, ending='jpg')
  after = load(root)
  assert after.nb_samples('train') + after.nb_samples('eval') == 11
  assert before.nb_samples('train') + before.nb_samples('eval') == 10


def test_given_splits_are_taken(tmp_path):
  for part, nb in (('train', 4), ('val', 3)):
    fill(tmp_path / part / 'a', (0, 0, 0), nb)
    fill(tmp_path / part / 'b', (9, 9, 9), nb)
  data = load(tmp_path)
  assert (data.nb_samples('train'), data.nb_samples('eval')) == (8, 6)
  fill(tmp_path / 'val' / 'c', (0, 0, 0))
  with pytest.raises(UserError, match='only one of them has c'):
    load(tmp_path)


def test_streaming_equals_caching(root, monkeypatch):
  cached = load(root)
  monkeypatch.setattr(image_folder, '_CACHE_BYTES', 0)
  streamed = load(root)
  for one, other in (
    (cached.train_batches(4, 1, 2), streamed.train_batches(4, 1, 2)),
    (cached.eval_batches('eval', 2), streamed.eval_batches('eval', 2)),
  ):
    for (x, y), (x2, y2) in zip(one.take(3), other.take(3), strict=True):
      np.testing.assert_array_equal(x, x2)
      np.testing.assert_array_equal(y, y2)
  np.testing.assert_array_equal(cached.calibration_images(3), streamed.calibration_images(3))


def test_a_huge_photograph_is_shrunk_while_it_is_decoded(root):
  ramp = np.linspace(0, 255, 800).astype(np.uint8)
  pixels = np.stack([np.broadcast_to(ramp, (600, 800))] * 3, axis=-1)
  path = root / 'red' / 'huge.jpg'
  Image.fromarray(pixels).save(path, quality=95)
  found = image_folder.decode_image(str(path), (16, 16, 3)).numpy().astype(int)
  centre = Image.fromarray(pixels[:, 100:700]).resize((16, 16), Image.Resampling.BOX)
  np.testing.assert_allclose(found, np.asarray(centre).astype(int), atol=4)
  shapes = []
  decode = tf.io.decode_jpeg

  def record(data, **options):
    image = decode(data, **options)
    shapes.append(tuple(image.shape))
    return image

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tf.io, 'decode_jpeg', record)
    data = tf.io.read_file(str(path))
    part = decode_window(data, tf.constant([0, 100, 600, 600]), (16, 16))
  assert part.shape == (75, 75, 3)
  assert shapes == [(75, 100, 3)]


def test_a_jpeg_that_would_take_all_memory_is_refused(root):
  """One that is progressive is never decoded in part; only the header says so here."""
  path = root / 'red' / '0.jpg'
  data = path.read_bytes()
  sides = data.index(b'\xff\xc0') + 5
  path.write_bytes(data[:sides] + struct.pack('>HH', 60_000, 60_000) + data[sides + 4 :])
  data = tf.io.read_file(str(path))
  for decode in (
    lambda: image_folder.decode_image(str(path), (16, 16, 3)),
    lambda: central_crop(data, 16),
    lambda: random_crop(data, 16, tf.constant([1, 2], tf.int64)),
  ):
    with pytest.raises(tf.errors.InvalidArgumentError, match='a huge JPEG file'):
      decode()
  with pytest.raises(UserError, match=r'0\.jpg is not a usable image \(it has over 179 million'):
    load(root)


def test_a_text_file_named_jpg(root):
  (root / 'red' / 'note.jpg').write_text('not an image')
  with pytest.raises(
    UserError, match=r'note.jpg is not a usable image \(its content is not an image\)'
  ):
    load(root)


def test_a_cut_image(root):
  path = root / 'blue' / '0.png'
  Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 40, 3), np.uint8)).save(path)
  path.write_bytes(path.read_bytes()[:-2000])
  with pytest.raises(UserError, match=r'0.png cannot be decoded'):
    load(root)


@pytest.mark.parametrize('place', [0, 3, 7])
def test_a_cut_image_is_named_where_images_are_decoded_while_training(root, monkeypatch, place):
  monkeypatch.setattr(image_folder, '_CACHE_BYTES', 0)
  data = load(root)
  path = Path(data.splits['train'].images[place])
  whole = [batch[1].numpy() for batch in data.eval_batches('train', 3)]
  path.write_bytes(path.read_bytes()[:-20])
  for batches in (data.eval_batches('train', 3), data.train_batches(8, 0).take(1)):
    with pytest.raises(tf.errors.OpError) as raised:
      list(batches)
    assert str(told_in(raised.value)).startswith(f'{path} cannot be decoded: a complete JPEG')
  rest = [batch[1].numpy() for batch in data.eval_batches('eval', 3)]
  assert sum(map(len, whole)) == 8
  assert sum(map(len, rest)) == 2


def png(width, height):
  """The head of a PNG file that says it is so large, and a pixel or two."""
  parts = [(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)),
           (b'IDAT', zlib.compress(bytes(100))), (b'IEND', b'')]  # fmt: skip
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    for kind, body in parts
  )


def as_bytes(image, form, **options):
  file = io.BytesIO()
  image.save(file, form, **options)
  return file.getvalue()


@pytest.mark.parametrize(
  ('content', 'problem'),
  [
    (b'', 'its content is not an image'),
    (as_bytes(Image.new('RGB', (9, 9)), 'GIF'), 'its content is GIF'),
    (png(12_000, 10_000), 'it has 120 million pixels, but at most 100 million are read'),
    (png(400_000, 400_000), 'it has over 179 million pixels, which are not read'),
  ],
)
def test_what_is_no_image_of_a_usable_kind(root, content, problem, recwarn):
  (root / 'red' / 'odd.png').write_bytes(content)
  with pytest.raises(UserError, match=rf'odd.png is not a usable image \(.*{problem}'):
    load(root)
  assert not recwarn.list


def test_what_is_found_while_training_alone_is_not_decoded_either(root, monkeypatch):
  """Of many files only some are checked beforehand."""
  monkeypatch.setattr(image_folder, 'check_images', lambda paths: None)
  for content in (
    as_bytes(Image.new('RGB', (9, 9)), 'GIF'),
    as_bytes(Image.new('RGB', (9, 9)), 'BMP'),
    png(12_000, 10_000),
    png(12, 10)[:20],
  ):
    (root / 'red' / 'odd.png').write_bytes(content)
    with pytest.raises(UserError, match=r'odd.png cannot be decoded'):
      load(root)


def test_what_is_no_file(root):
  os.mkfifo(root / 'red' / 'pipe.jpg')
  with pytest.raises(UserError, match=r'pipe.jpg is not a usable image \(it is no file\)'):
    load(root)
  (root / 'red' / 'pipe.jpg').unlink()
  (root / 'red' / 'link.jpg').symlink_to('nowhere.jpg')
  with pytest.raises(UserError, match=r'link.jpg is not a usable image'):
    load(root)


def test_images_of_many_kinds(tmp_path):
  """16 bits, transparent, grey, of a palette, animated, of one pixel, of a telephone."""
  red = Image.new('RGB', (9, 7), (255, 0, 0))
  kinds = {
    'deep.png': as_bytes(Image.fromarray(np.full((7, 9), 65535, np.uint16)), 'PNG'),
    'clear.png': as_bytes(Image.new('RGBA', (9, 7), (255, 0, 0, 10)), 'PNG'),
    'grey.jpg': as_bytes(Image.new('L', (9, 7), 255), 'JPEG'),
    'palette.png': as_bytes(red.convert('P'), 'PNG'),
    'moving.png': as_bytes(red, 'PNG', save_all=True, append_images=[Image.new('RGB', (9, 7))]),
    'one.png': as_bytes(Image.new('RGB', (1, 1), (255, 0, 0)), 'PNG'),
    'narrow.jpg': as_bytes(Image.new('RGB', (1, 40), (255, 0, 0)), 'JPEG'),
    'telephone.jpg': as_bytes(red, 'MPO', save_all=True, append_images=[Image.new('RGB', (9, 7))]),
  }
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    for file, content in kinds.items():
      (tmp_path / name / file).write_bytes(content)
  data = load(tmp_path)
  assert data.nb_samples('train') + data.nb_samples('eval') == 2 * len(kinds)
  assert all((split.images[..., 0] > 250).all() for split in data.splits.values())


ODD = ['it\'s "q"', 'two\nlines', '<b>猫', ' ', '$(x)&;', '-r']


def test_odd_names(tmp_path):
  for name in ODD:
    fill(tmp_path / 'caf\udce9' / name, (9, 9, 9), nb=2)
    os.rename(
      tmp_path / 'caf\udce9' / name / '0.png', tmp_path / 'caf\udce9' / name / f'{name}\udcff.png'
    )
  assert load(tmp_path / 'caf\udce9').class_names == sorted(ODD)
  fill(tmp_path / 'caf\udce9' / 'c\udce9', (9, 9, 9))
  with pytest.raises(UserError, match='names a class in bytes that are no UTF-8'):
    load(tmp_path / 'caf\udce9')


def test_cmyk(root):
  Image.new('CMYK', (8, 8)).save(root / 'red' / 'print.jpg')
  with pytest.raises(UserError, match='CMYK'):
    load(root)


def test_empty_class_too_few_images_too_few_classes(root, tmp_path):
  (root / 'green').mkdir()
  with pytest.raises(UserError, match=r'green has no \.jpg'):
    load(root)
  fill(root / 'green', (0, 255, 0), nb=1)
  with pytest.raises(UserError, match='green has 1 image'):
    load(root)
  fill(tmp_path / 'single' / 'a', (0, 0, 0))
  with pytest.raises(UserError, match='has 1 class folders'):
    load(tmp_path / 'single')


def test_no_folder(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('SECATEURS_DATA', raising=False)
  with pytest.raises(UserError, match='No image folder was named'):
    image_folder.load(ImageFolderConfig())
