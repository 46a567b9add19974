"""Writes a model in every format that a deployment takes, and checks each file against the model."""

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.utils import memory
from secateurs.utils.deploy.files.export_files import ENDINGS, WRITERS, Writer, export_job
from secateurs.utils.deploy.files.parity import Agreement, Parity, ParityError, top1_agreement
from secateurs.utils.deploy.files.size import gzip_bytes
from secateurs.utils.deploy.int8.repair import Repairer
from secateurs.utils.deploy.runtime.sound_files import note_sound
from secateurs.utils.errors import UserError
from secateurs.utils.files import explain_os_errors, partial_path, remove, size_of

_NOT_PACKED = ('keras', 'pb', 'saved_model', 'onnx')


@dataclass(frozen=True)
class ExportedFile:
  """One written file: where, how big, and how close to the Keras model.

  Attributes:
    path: where.
    bytes: of the file.
    packed: its bytes after gzip, if counted already: only reports of .tflite files show them.
    parity: how close.
  """

  path: Path
  bytes: int
  packed: int | None
  parity: Parity

  @property
  def gzip_bytes(self) -> int:
    """Bytes after gzip."""
    return gzip_bytes(self.path) if self.packed is None else self.packed


@dataclass(frozen=True)
class Export:
  """What `export_model` wrote.

  Attributes:
    keras: the `.keras` archive.
    pb: the frozen GraphDef, None when it was left out.
    tflite: the float TensorFlow Lite file, None when it was left out.
    tflite_int8: the full-integer TensorFlow Lite file, None when it was not asked for or left out.
    tflite_sparse: the float file that skips the zeros of kernels that have many, None when it was not
      asked for. It is decompressed when it is loaded, so that it runs like the float file.
    further: files of a learner's own formats, by format: tflite_quant, dc.
    pb_input: tensor name to feed in the GraphDef; of several inputs, names with commas between them.
    pb_output: tensor name to fetch from the GraphDef, likewise.
    seconds: time that all of it took.
    left_out: the files that could not be made, by format, and why.
    notes: sentences about the files that the user must not miss.
    repairs: steps of repairing the full-integer file, see `int8.repair.Step`.
  """

  keras: ExportedFile
  pb: ExportedFile | None
  tflite: ExportedFile | None
  tflite_int8: ExportedFile | None
  tflite_sparse: ExportedFile | None
  further: Mapping[str, ExportedFile]
  pb_input: str | None
  pb_output: str | None
  seconds: float
  left_out: Mapping[str, str]
  notes: list[str]
  repairs: list[dict[str, Any]] = field(default_factory=list)

  @property
  def files(self) -> dict[str, ExportedFile]:
    """The written files by format: keras, pb, tflite, and the other .tflite files if there are any."""
    named = {
      'keras': self.keras,
      'pb': self.pb,
      'tflite': self.tflite,
      'tflite_int8': self.tflite_int8,
      'tflite_sparse': self.tflite_sparse,
    }
    return {kind: file for kind, file in named.items() if file} | dict(self.further)

  def parity_figures(self) -> dict[str, float]:
    """The report's `parity` entries: differences as fractions of the output's range; int8 in steps."""
    names = {'tflite': 'tflite_vs_keras', 'pb': 'pb_vs_keras', 'keras': 'reloaded_vs_keras'}
    files = self.files
    figures = {
      name: files[kind].parity.max_rel_diff for kind, name in names.items() if kind in files
    }
    if 'tflite_quant' in self.further:
      figures['quant_top1_agreement'] = self.further['tflite_quant'].parity.top1_agreement
    if self.tflite_int8:
      figures['int8_top1_agreement'] = self.tflite_int8.parity.top1_agreement
      figures['int8_max_diff_steps'] = self.tflite_int8.parity.max_diff_steps
    return {name: value for name, value in figures.items() if value is not None}


def export_model(
  model: keras.Model,
  prefix: str | os.PathLike,
  *,
  calibration: Any = None,
  formats: Collection[str] = ('keras', 'pb', 'tflite'),
  int8: bool = False,
  sparse: bool = False,
  parity_images: Any = None,
  quantized: keras.Model | None = None,
  further: Mapping[str, Writer] | None = None,
  agreement: Agreement = top1_agreement,
  repair: Repairer | None = None,
) -> Export:
  """Writes `<prefix>.keras`, `.pb`, `.tflite` and, if asked for, `_int8.tflite` and others.

  Every file is written under a partial name and compared with the model. The files are renamed when
  all of them are done: a kill never leaves a torn file, a refused export keeps the earlier one. A
  format that cannot be made, or whose file is wrong, is left out, and an earlier file of it is
  removed; only without a right `.keras` file there is no export.

  Args:
    model: a functional tf_keras model that computes in float32.
    prefix: folder and start of the files' names, e.g. './models_eval/model'.
    calibration: training inputs [n, ...] as the network sees them, a tuple for several inputs;
      the integer ranges come from all of them (a few hundred do). Needed with `int8`.
    formats: of keras, pb and tflite those that are written; keras always is.
    int8: also write the full-integer file, int8 in and out.
    sparse: also write the float file whose kernels skip their zeros.
    parity_images: images for the comparison, of which the first are taken (`nb_parity_images`); by
      default the first calibration images, else seeded Gaussian noise.
    quantized: a twin of the model that simulates 8 bits; the full-integer file is made from it (and
      compared with it), with or without `int8`.
    further: writers of a learner's own formats, by format, see `export_files.ENDINGS`.
    agreement: fraction of decisions that two sets of outputs agree in; default: the largest output.
    repair: repairs the full-integer file, unless that comes from `quantized`.

  Raises:
    UserError: the model or the images cannot be exported, or the folder cannot be written.
    ParityError: the .keras file does not compute what the model computes.
  """
  started = time.perf_counter()
  job = export_job(model, quantized, int8, calibration, parity_images, agreement, repair)
  prefix = Path(prefix)
  kinds = ['keras', *(kind for kind in ('pb', 'tflite') if kind in formats)]
  kinds += ['tflite_int8'] if int8 or quantized is not None else []
  kinds += ['tflite_sparse'] if sparse else []
  writers = {**{kind: WRITERS[kind] for kind in kinds}, **(further or {})}
  paths = [prefix.with_name(prefix.name + ENDINGS[kind]) for kind in writers]
  parities: dict[str, Parity] = {}
  left_out: dict[str, str] = {}
  packed: dict[str, Future[int]] = {}
  # Files are gzipped, which needs no Python, while the next ones are made.
  with (
    memory.returned_at_once(),
    _all_at_once(paths) as partials,
    ThreadPoolExecutor(1) as packer,
  ):
    for (kind, write), partial, path in zip(writers.items(), partials, paths, strict=True):
      try:
        parities[kind] = write(job, partial, path.name)
      except (UserError, ParityError, RuntimeError, ValueError) as error:
        if kind == 'keras':
          raise
        left_out[kind] = f'{path.name} was left out: {_reason(error)}'
        remove(partial)
        continue
      if kind not in _NOT_PACKED:
        packed[kind] = packer.submit(gzip_bytes, partial)
      memory.release()
    sizes = {
      kind: size_of(partial)
      for kind, partial in zip(writers, partials, strict=True)
      if kind in parities
    }
    packed_sizes = {kind: future.result() for kind, future in packed.items()}
  files = {
    kind: ExportedFile(path, sizes[kind], packed_sizes.get(kind), parities[kind])
    for kind, path in zip(writers, paths, strict=True)
    if kind in parities
  }
  for kind, file in files.items():
    if kind.startswith('tflite'):
      note_sound(file.path)
  return Export(
    keras=files['keras'],
    pb=files.get('pb'),
    tflite=files.get('tflite'),
    tflite_int8=files.get('tflite_int8'),
    tflite_sparse=files.get('tflite_sparse'),
    further={kind: files[kind] for kind in further or {} if kind in files},
    pb_input=','.join(job.pb_names['inputs']) if 'pb' in files else None,
    pb_output=','.join(job.pb_names['outputs']) if 'pb' in files else None,
    seconds=time.perf_counter() - started,
    left_out=left_out,
    notes=job.notes,
    repairs=[] if repair is None else repair.block(),
  )


def _reason(error: Exception) -> str:
  """An error's first line as the end of a sentence."""
  text = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
  return text if text.endswith('.') else f'{text}.'


@contextlib.contextmanager
def _all_at_once(paths: list[Path]) -> Iterator[list[Path]]:
  """Yields a partial name for each path; renames all when the block ends, removes all on error.

  A path whose partial file is not there in the end has its earlier file removed.
  """
  partials = [partial_path(path) for path in paths]
  with explain_os_errors(paths[0].parent):
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    try:
      yield partials
      for partial, path in zip(partials, paths, strict=True):
        if partial.is_dir():
          remove(path)  # A folder with files in it is not replaced.
        if partial.exists():
          os.replace(partial, path)
        else:
          remove(path)
    finally:
      for partial in partials:
        with contextlib.suppress(OSError):
          remove(partial)
