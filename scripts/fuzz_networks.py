"""Files of networks for scripts/fuzz_files.py: .tflite files and checkpoints, and what reads them."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import fuzz_data
import numpy as np

# A sound file takes a fifth of a second. One that never ends would cost a user's limit, 20 s or 15
# minutes; one that asks for all memory would take it from whatever else runs here.
_SECONDS, _ROOM = {'h5': 5.0, 'tflite': 30.0}, 2 << 30
_IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)


def tflite(*, int8: bool) -> Callable[[Path], Path]:
  """A maker of the .tflite file of a small network."""

  def make(folder: Path) -> Path:
    from secateurs.utils.deploy import int8_bytes, tflite_bytes

    model = _network()
    path = folder / 'm.tflite'
    path.write_bytes(int8_bytes(model, _IMAGES) if int8 else tflite_bytes(model))
    return path

  return make


@functools.cache
def _network() -> Any:
  import tf_keras as keras

  keras.utils.set_random_seed(0)
  layers = keras.layers
  image = keras.Input((8, 8, 3))
  x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding='same')(image)))
  x = layers.Add()([x, layers.DepthwiseConv2D(3, padding='same')(x)])
  x = layers.GlobalAveragePooling2D()(layers.MaxPool2D()(x))
  return keras.Model(image, layers.Softmax()(layers.Dense(4)(x)))


def load_h5(path: Path) -> Any:
  """A model file of HDF5, given less time."""
  from secateurs.utils import hdf5_files
  from secateurs.utils.model_files import load_model

  with mock.patch.object(hdf5_files, '_SECONDS', _SECONDS['h5']):
    return load_model(path)


def together(read: Callable[[Path], Any]) -> Callable[[Path, Sequence[bytes]], list[Any]]:
  """A reader of many .tflite files: a process tries them all; those that pass are read one by one."""

  def read_all(path: Path, contents: Sequence[bytes]) -> list[Any]:
    from secateurs.utils.deploy.runtime import sound_files

    paths = [path.with_name(f'{number}.tflite') for number in range(len(contents))]
    for one, content in zip(paths, contents, strict=True):
      one.write_bytes(content)
    with _limited():
      refused = dict(sound_files.refusals(paths, every_kernel=read is verify_tflite))
    return [refused.get(one) or fuzz_data.tried(read, one) for one in paths]

  return read_all


@contextlib.contextmanager
def _limited() -> Iterator[None]:
  """Less time and memory for the process that tries .tflite files."""
  from secateurs.utils import memory
  from secateurs.utils.deploy.runtime import sound_files

  room = min(memory.free(), _ROOM)
  with (
    mock.patch.object(sound_files, '_SECONDS', _SECONDS['tflite']),
    mock.patch.object(memory, 'free', return_value=room),
  ):
    yield


def run_tflite(path: Path) -> list[Any]:
  """What evaluating and timing find in a file: outputs, operators."""
  from secateurs.utils.deploy import TFLiteModel
  from secateurs.utils.deploy.runtime.operators import operators_of
  from secateurs.utils.deploy.runtime.sound_files import require_sound

  with _limited():
    require_sound([path])
  model = TFLiteModel(path)
  with np.errstate(all='ignore'):
    outputs = model.predict(_IMAGES)
  model.set_single(model.made_up(np.random.default_rng(0)))
  model.invoke_once()
  return [outputs, operators_of(path), model.nb_bytes()]


def verify_tflite(path: Path) -> Any:
  """What a file's comparison with its network finds, layer by layer and in whole numbers."""
  from secateurs.utils.deploy.files.verification import verify
  from secateurs.utils.deploy.runtime.sound_files import require_sound

  with _limited():
    require_sound([path], every_kernel=True)
  with np.errstate(all='ignore'):
    return verify(_network(), {'tflite_int8': path}, _IMAGES)


def checkpoint(ending: str) -> Callable[[Path], Path]:
  """A maker of two checkpoints, of which a file of the newer one is damaged."""

  def make(folder: Path) -> Path:
    import tensorflow as tf

    from secateurs.utils.training.models.checkpoints import CheckpointStore

    store = CheckpointStore(folder / 'model.ckpt')
    for number in (1, 2):
      values = tf.reshape(tf.range(96.0), (8, 12)) * number
      store.save({'model': {'dense/kernel': tf.Variable(values)}}, {'step': 7 * number})
    (path,) = folder.glob(f'model.ckpt-2.{ending}')
    return path

  return make


def resume(path: Path) -> list[Any]:
  """State and weights of the checkpoint that a run resumes from.

  Raises:
    UserError: it is the one before, which the run says.
    AssertionError: it is the one before, and nothing was said.
  """
  from secateurs.utils.errors import UserError
  from secateurs.utils.training.models import checkpoints

  checkpoints._say_damaged.cache_clear()  # It is said once in a process.
  with contextlib.redirect_stdout(io.StringIO()) as output:
    saved = checkpoints.CheckpointStore(path.parent / 'model.ckpt').latest()
  found = [saved.state, saved.values('model')]
  if saved.number == 1:
    assert found[0] == {'step': 7}
    assert found[1]['dense/kernel'][0, 1] == 1
    assert 'damaged' in output.getvalue(), 'a checkpoint was passed over without a word'
    raise UserError('The last good checkpoint was taken.')
  return found
