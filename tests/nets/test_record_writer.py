import filelock
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from secateurs.nets.datasets import ilsvrc12
from secateurs.nets.datasets.ilsvrc12 import Ilsvrc12Config
from secateurs.nets.datasets.record_items import find_items
from secateurs.nets.datasets.record_shard import as_jpeg
from secateurs.nets.datasets.record_writer import build
from secateurs.utils.errors import UserError

SHARDS = {'train': 3, 'validation': 2}
FEATURES = {
  'image/encoded': tf.io.FixedLenFeature([], tf.string),
  'image/filename': tf.io.FixedLenFeature([], tf.string),
  'image/class/label': tf.io.FixedLenFeature([], tf.int64),
  'image/class/synset': tf.io.FixedLenFeature([], tf.string),
  'image/height': tf.io.FixedLenFeature([], tf.int64),
  'image/width': tf.io.FixedLenFeature([], tf.int64),
}


@pytest.fixture
def source(tmp_path):
  """Two classes; one image is a PNG, one is in CMYK, one is torn."""
  root = tmp_path / 'images'
  rng = np.random.default_rng(0)
  for split, nb in (('train', 6), ('val', 3)):
    for synset in ('n01', 'n02'):
      folder = root / split / synset
      folder.mkdir(parents=True)
      for i in range(nb):
        pixels = rng.integers(0, 256, (20 + i, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{synset}_{split}_{i}.JPEG')
  Image.new('RGB', (9, 8)).save(root / 'train/n01/n01_train_0.JPEG', 'PNG')
  Image.new('CMYK', (9, 8)).save(root / 'train/n01/n01_train_1.JPEG', 'JPEG')
  torn = root / 'train/n02/n02_train_0.JPEG'
  torn.write_bytes(torn.read_bytes()[:300])
  return root


def write(source, out, nb_corrupt_max=5, nb_workers=1, **options):
  return build(
    find_items(source, **options),
    out,
    SHARDS,
    nb_workers=nb_workers,
    nb_corrupt_max=nb_corrupt_max,
  )


def read(out, split):
  files = sorted(str(p) for p in out.glob(f'{split}-*-of-*'))
  return [tf.io.parse_single_example(r, FEATURES) for r in tf.data.TFRecordDataset(files)]


def test_shards_hold_what_the_folders_hold(source, tmp_path):
  written = write(source, tmp_path / 'out')
  assert (written['train'].nb_images, written['train'].nb_records) == (12, 11)
  records = read(tmp_path / 'out', 'train')
  found = {r['image/filename'].numpy().decode(): r for r in records}
  assert 'n02_train_0.JPEG' not in found
  for name, record in found.items():
    data = record['image/encoded'].numpy()
    assert record['image/class/label'] == (1 if name.startswith('n01') else 2)
    assert record['image/class/synset'].numpy().decode() == name[:3]
    shape = tf.io.decode_jpeg(data).shape
    assert (record['image/height'], record['image/width']) == tuple(shape[:2])
    if name not in ('n01_train_0.JPEG', 'n01_train_1.JPEG'):
      assert data == (source / 'train' / name[:3] / name).read_bytes()
  (listed,) = (tmp_path / 'out' / 'left_out').iterdir()
  assert listed.name.startswith('train-')
  assert str(source / 'train/n02/n02_train_0.JPEG') in listed.read_text()
  config = Ilsvrc12Config(data_dir_local=str(tmp_path / 'out'), image_size=16)
  data = ilsvrc12.load(config)
  assert (data.nb_samples('train'), data.nb_samples('eval')) == (11, 6)
  assert len(next(iter(data.train_batches(8, 0)))[1]) == 8


def test_a_flat_validation_folder_takes_its_classes_from_a_file(source, tmp_path):
  val = source / 'val'
  for path in sorted(val.glob('*/*')):
    path.rename(val / path.name)
  for folder in ('n01', 'n02'):
    (val / folder).rmdir()
  with pytest.raises(UserError, match='give --val_labels with the class of each'):
    find_items(source)
  labels = tmp_path / 'labels.txt'
  labels.write_text('\n'.join(['n02'] * 3 + ['n01'] * 3))
  items = find_items(source, labels)['validation']
  assert [(item.path[-12:], item.label) for item in items[2:4]] == [
    ('1_val_2.JPEG', 2),
    ('2_val_0.JPEG', 1),
  ]
  labels.write_text('n02')
  with pytest.raises(UserError, match=r'has 1 lines, but .* has 6 images'):
    find_items(source, labels)
  labels.write_text('\n'.join(['n03'] * 6))
  with pytest.raises(UserError, match='has n03, which is not a folder below train'):
    find_items(source, labels)


def test_only_missing_shards_are_written_again(source, tmp_path):
  out = tmp_path / 'out'
  write(source, out)
  before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob('*-of-*')}
  assert len(before) == 5
  (out / 'train-00001-of-00003').unlink()
  again = write(source, out)
  assert again['validation'].nb_images == 0
  assert again['train'].nb_images == 4
  after = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob('*-of-*')}
  assert {n: content for n, (_, content) in after.items()} == {
    n: content for n, (_, content) in before.items()
  }
  assert [n for n in before if before[n][0] != after[n][0]] == ['train-00001-of-00003']


def test_damaged_lists_of_an_earlier_call(source, tmp_path):
  """That of images that were left out is made again, with its shard; that of all images is named."""
  out = tmp_path / 'out'
  write(source, out)
  (listed,) = (out / 'left_out').iterdir()
  before = listed.read_text()
  listed.write_text('[["a"]]')
  assert write(source, out)['train'].nb_images == 4
  assert listed.read_text() == before
  (out / 'build.json').write_text('{"tr')
  with pytest.raises(UserError, match=r'build\.json is damaged \(.*\), but it should say which'):
    write(source, out)


def test_shards_of_other_images_are_kept(source, tmp_path):
  write(source, tmp_path / 'out')
  (source / 'train/n01/n01_train_5.JPEG').unlink()
  with pytest.raises(UserError, match='was started with other images or numbers of shards'):
    write(source, tmp_path / 'out')
  Image.new('RGB', (9, 8)).save(source / 'train/n01/n01_train_9.JPEG')  # As many as before.
  with pytest.raises(UserError, match='was started with other images or numbers of shards'):
    write(source, tmp_path / 'out')


def test_too_many_images_that_cannot_be_read_stop_the_build(source, tmp_path):
  """However often it is called; a fixed image is added, a higher limit continues."""
  torn = source / 'train/n02/n02_train_0.JPEG'
  for out in ('fixed', 'more'):
    for _ in range(2):
      with pytest.raises(UserError, match=r'1 images cannot be read, such as .*n02_train_0.JPEG'):
        write(source, tmp_path / out, nb_corrupt_max=0)
  for _ in range(2):
    written = write(source, tmp_path / 'more', nb_corrupt_max=1)
    assert [path for path, _ in written['train'].left_out] == [str(torn)]
  Image.new('RGB', (9, 8)).save(torn)
  for out in ('fixed', 'more'):
    written = write(source, tmp_path / out, nb_corrupt_max=0)
    assert not written['train'].left_out
    assert len(read(tmp_path / out, 'train')) == 12
    assert not list((tmp_path / out / 'left_out').iterdir())


def test_hidden_folders_and_files_are_passed_over(source):
  for hidden in ('.thumbnails', 'n01/.cache'):
    (source / 'train' / hidden).mkdir()
  Image.new('RGB', (9, 8)).save(source / 'train/.thumbnails/a.JPEG')
  (source / 'train/n01/._n01_train_2.JPEG').write_bytes(b'of another system')
  items = find_items(source)['train']
  assert len(items) == 12
  assert {(item.synset, item.label) for item in items} == {('n01', 1), ('n02', 2)}


def test_folders_that_do_not_fit(source, tmp_path):
  with pytest.raises(UserError, match='must contain the folders train and val'):
    find_items(tmp_path)
  (source / 'val' / 'n09').mkdir()
  with pytest.raises(UserError, match='has the class n09, which is not a folder below train'):
    find_items(source)


def test_a_grey_jpeg_stays_as_it_is(tmp_path):
  Image.new('L', (7, 5), 90).save(tmp_path / 'grey.jpg')
  data = (tmp_path / 'grey.jpg').read_bytes()
  assert as_jpeg(data) == (data, (7, 5))


@pytest.mark.slow
def test_several_processes_write_the_same(source, tmp_path):
  write(source, tmp_path / 'one')
  write(source, tmp_path / 'two', nb_workers=2)
  paths = sorted((tmp_path / 'one').glob('*-of-*'))
  assert len(paths) == 5
  for path in paths:
    assert path.read_bytes() == (tmp_path / 'two' / path.name).read_bytes()


def test_one_command_at_a_time_writes_shards(source, tmp_path):
  (tmp_path / 'out').mkdir()
  with (
    filelock.FileLock(tmp_path / 'out' / '.lock'),
    pytest.raises(UserError, match=f'Another command is writing shards to {tmp_path}/out'),
  ):
    write(source, tmp_path / 'out')
  assert [path.name for path in (tmp_path / 'out').iterdir()] == ['.lock']
