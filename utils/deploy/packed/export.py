"""The writer of `<name>.dc` for exports, and the bytes of each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.files.export_files import Job
from secateurs.utils.deploy.files.parity import (
  Parity,
  compare_outputs,
  keras_outputs,
  require_parity,
)
from secateurs.utils.deploy.packed.kernels import STAGES
from secateurs.utils.deploy.packed.network import pack, read

BucketsOf = Callable[[keras.Model], Mapping[str, tuple[tf.Variable, Buckets]]]


def write_packed(job: Job, partial: Path, name: str, *, buckets: BucketsOf) -> Parity:
  """Writes the packed file, unpacks it, and compares the network that comes out.

  Args:
    job: the model.
    partial: where to write.
    name: what messages call the file.
    buckets: kernels of a model and their buckets, by name.

  Raises:
    ParityError: the unpacked network computes something else.
  """
  plain = _plain(job.model)
  partial.write_bytes(pack(plain, _places(plain, buckets)))
  unpacked = read(partial).model()
  found = keras_outputs(unpacked, job.images)
  return require_parity(name, compare_outputs(job.reference, found, None, job.agreement))


def stage_sizes(model: keras.Model, buckets: BucketsOf, folder: Path) -> dict[str, int]:
  """Bytes of the packed file after each stage, as written to a folder, by the stage's name."""
  plain, sizes = _plain(model), {}
  for stage in STAGES:
    path = folder / f'{stage}.dc'
    path.write_bytes(pack(plain, _places(plain, buckets), stage))
    sizes[stage] = path.stat().st_size
  return sizes


def _plain(model: keras.Model) -> keras.Model:
  from secateurs.utils.graph.slicing.saving import plain_model

  return plain_model(model)


def _places(model: keras.Model, buckets: BucketsOf) -> dict[int, Buckets]:
  places = {weight.ref(): place for place, weight in enumerate(model.weights)}
  return {places[kernel.ref()]: kind for kernel, kind in buckets(model).values()}
