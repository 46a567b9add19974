"""The kinds of file that a search may be for: what it writes, and what the file costs."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.quant.clusters import codebook_of
from secateurs.learners.quant.codebooks import CodebookProjection
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.buckets import Buckets, buckets_of
from secateurs.utils.deploy import TFLiteModel, int8_bytes, measure_latency, tflite_bytes
from secateurs.utils.deploy.devices.memory_plan import peak_of
from secateurs.utils.deploy.packed.network import pack
from secateurs.utils.deploy.runtime.sound_files import require_sound
from secateurs.utils.errors import UserError
from secateurs.utils.graph import count, plain_model
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.shadow import ShadowWeights
from secateurs.utils.training.models.weights import kernels_by_name

_FEW_IMAGES = 8  # Calibrate a file that is only weighed and timed.
_FRAMES = 100
ENDINGS = {'float': '.tflite', 'int8': '_int8.tflite', 'packed': '.dc'}


@dataclasses.dataclass(frozen=True)
class Costs:
  """What networks cost in one kind of file.

  Attributes:
    cost: bytes, latency (ms), macs, or ram (bytes).
    file: float, int8 or packed.
    settings: of the run.
    original: the original's float .tflite file, which latencies are measured against.
    original_ms: its latency.
  """

  cost: str
  file: str
  settings: Settings
  original: Path
  original_ms: float

  def content(
    self, model: keras.Model, bits: Mapping[str, int] | None = None, *, rough: bool = False
  ) -> bytes:
    """The file of a float32 network.

    Args:
      model: gives the task's outputs.
      bits: by kernel name, for a packed file; kernels with more values are rounded.
      rough: whether only its size and its time matter.
    """
    helper = self.settings.helper
    deployable = helper.task.deployable(model)
    if self.file == 'int8':
      nb_images = _FEW_IMAGES if rough else self.settings.run.nb_smpls_calib
      return int8_bytes(deployable, helper.calibration_images(nb_images))
    if self.file == 'packed':
      plain = plain_model(deployable)
      places = {weight.ref(): place for place, weight in enumerate(plain.weights)}
      kernels = kernels_by_name(plain)
      coded = {places[kernel.ref()]: whole_kernel(kernel) for kernel in kernels.values()}
      with rounded(kernels, bits or {}):
        return pack(plain, coded, rounding=True)
    return tflite_bytes(deployable)

  def of(
    self, model: keras.Model, bits: Mapping[str, int] | None = None, *, rough: bool = True
  ) -> float:
    """What a network costs: of its file, as far as a file decides; see `content`."""
    if self.cost == 'macs':
      return float(count(model).macs)
    content = distributed.from_chief(lambda: self.content(model, bits, rough=rough))
    if self.cost == 'ram':
      return float(peak_of(content).bytes)
    if self.cost == 'bytes':
      return float(len(content))
    return self.latencies({'model': content})['model']

  def latencies(self, contents: Mapping[str, bytes]) -> dict[str, float]:
    """Latencies in ms, timed against each other and the original; infinite if a file does not run."""

    def timed() -> dict[str, float]:
      require_sound([self.original])
      with tempfile.TemporaryDirectory(prefix='secateurs-') as folder:
        paths: dict[str, Path] = {'original': self.original}
        for number, (name, content) in enumerate(contents.items()):
          paths[f'model {name}'] = Path(folder) / f'{number}.tflite'
          paths[f'model {name}'].write_bytes(content)
        paths = {name: path for name, path in paths.items() if name == 'original' or _runs(path)}
        found = measure_latency(paths, nb_frames=_FRAMES, threads=(min(self.settings.run.threads),))
      scale = self.original_ms / found['original'][0]['p50_ms']
      times = {name: one[0]['p50_ms'] * scale for name, one in found.items()}
      return {name: times.get(f'model {name}', math.inf) for name in contents}

    return distributed.from_chief(timed)

  def predictor(self, model: keras.Model) -> Callable[[Any], Any]:
    """What the file of a network gives for inputs: the task's outputs.

    A float file computes what its network does; shared weights are those of the network already.
    """
    if self.file != 'int8':
      forward = tf.function(lambda inputs: model(inputs, training=False))
      return lambda inputs: nested.as_numpy(forward(inputs))
    content = distributed.from_chief(lambda: self.content(model))
    folder = tempfile.TemporaryDirectory(prefix='secateurs-')
    path = Path(folder.name) / 'model.tflite'
    path.write_bytes(content)
    interpreter = TFLiteModel(path, nb_threads=max(self.settings.run.threads))
    task = self.settings.helper.task

    def predict(inputs: Any, _: object = folder) -> Any:  # The folder lives as long as this.
      return task.trained_outputs(interpreter.predict(inputs))

    return predict


def _runs(path: Path) -> bool:
  """Whether the runtime takes a file that was just made: it refuses steps that are far apart."""
  try:
    model = TFLiteModel(path)
    model.set_single(model.made_up(np.random.default_rng(0)))
    model.invoke_once()
  except UserError:
    return False
  return True


def latency_of(path: Path, nb_threads: int) -> float:
  """Median latency of a .tflite file in ms."""

  def timed() -> float:
    require_sound([path])
    found = measure_latency({'file': path}, nb_frames=_FRAMES, threads=(nb_threads,))
    return found['file'][0]['p50_ms']

  return distributed.from_chief(timed)


def shadows_of(network: keras.Model, bits: Mapping[str, int]) -> ShadowWeights:
  """What keeps the weights of each kernel to 2^bits values while a network trains; zeros stay."""
  kernels = {name: kernel for name, kernel in kernels_by_name(network).items() if name in bits}
  return ShadowWeights(
    kernels,
    {
      name: CodebookProjection(whole_kernel(kernel), bits[name], init='kmeans', mode='both')
      for name, kernel in kernels.items()
    },
  )


def whole_kernel(kernel: tf.Variable) -> Buckets:
  """One codebook for a whole kernel."""
  return buckets_of(kernel.name.split(':')[0], tuple(kernel.shape), 'layer', 1)


@contextlib.contextmanager
def rounded(kernels: Mapping[str, tf.Variable], bits: Mapping[str, int]) -> Iterator[None]:
  """Kernels whose weights share 2^bits values for the time of a block, zeros apart."""
  before = {name: kernel.numpy() for name, kernel in kernels.items() if name in bits}
  try:
    for name, weights in before.items():
      kernels[name].assign(shared(weights, bits[name]))
    yield
  finally:
    for name, weights in before.items():
      kernels[name].assign(weights)


def shared(weights: np.ndarray, bits: int) -> np.ndarray:
  """Weights that take 2^bits values found by k-means; zeros stay zeros, and few values as they are."""
  flat, found = weights.reshape(-1), np.zeros(weights.size, np.float32)
  stays = flat != 0
  if len(np.unique(flat[stays])) <= 2**bits:  # K-means might merge two of them.
    return weights.copy()
  book = np.sort(codebook_of(flat[stays], 2**bits, 'kmeans'))
  middles = (book[1:] + book[:-1]) / 2
  found[stays] = book[np.searchsorted(middles, flat[stays])]
  return found.reshape(weights.shape)
