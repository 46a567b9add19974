"""The steps of a run, and what a finished run gives."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.files.export_files import ENDINGS
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path, explain_os_errors

MEASURE = 'measure'
"""The phase in which the result is evaluated, exported and timed."""
_TITLES = {
  'train': 'train the network',
  'baseline': 'load or train the original network, and measure it',
  'latency': 'find the widths that reach the latency',
  'allocate': 'decide how much of each layer stays',
  'choose': 'take what stays from a plan',
  'prune': 'choose what goes, and refit the rest',
  'reconstruct': 'refit what is left, layer by layer',
  'round': 'prune, and train what is left',
  'slice': 'cut the channels out of the network',
  'finetune': 'train the smaller network',
  'sparsify': 'train while weights become zero',
  'bn_reestimate': 're-estimate batch-norm statistics, where that helps',
  'rearrange': 'sort filters, so that blocks of zeros lie together',
  'quantize': 'train while weights are rounded to few bits',
  'share': 'train while weights share few values',
  'stages': 'measure the bytes after each stage',
  'qat': 'train in simulated 8 bits',
  'measure': 'evaluate, export and time the result',
}


@dataclasses.dataclass(frozen=True)
class Phase:
  """A named step of a run; `run` starts over or resumes from the checkpoint of this very phase.

  Attributes:
    name: in checkpoints and reports.
    run: does it.
    nb_steps: training steps in it, as far as they are known before it runs.
    title: what it does, in a few words for the user; default: what phases of that name do.
  """

  name: str
  run: Callable[[], None]
  nb_steps: int = 0
  title: str = ''

  def describe(self) -> str:
    """What it does, in a few words for the user."""
    return (
      self.title or _TITLES.get(self.name, '') or _TITLES.get(self.name.rstrip('0123456789'), '')
    )


@dataclasses.dataclass(frozen=True)
class Result:
  """What a finished run gives.

  Attributes:
    model: the compressed model, float32, of Keras 3 if the network came so; with a softmax or sigmoid
      at its end where the given model had one.
    report: content of report.json, see `utils.deploy.reports.schema`.
    files: paths of the exported files by format. `keras` and `tflite` are always asked for; others are
      tflite_int8, tflite_sparse, tflite_quant, tflite_fp16, tflite_dynamic, tflite_nms, keras3, dc, pb,
      saved_model and onnx. A file that could not be made is not there, and the report says why.
    plan: path of plan.json, what was cut.
  """

  model: Any
  report: dict[str, Any]
  files: dict[str, Path]
  plan: Path

  def export(self, path: str | Path) -> Path:
    """Copies the exported file that the end of the path names.

    `small.tflite` is the float file, `small_int8.tflite` the full-integer one, likewise with `_sparse`,
    `_quant`, `_fp16`, `_dynamic` and `_nms`. `small.keras` is the file of Keras 3 where the network
    came so (that of tf_keras is `files['keras']`). `small.dc`, `small.onnx`, `small.pb` and
    `small_saved_model`, a folder, are the others.

    Args:
      path: where to write; folders are made.

    Returns:
      The path.

    Raises:
      UserError: the run has made no such file, or the folder cannot be written.
    """
    path = Path(path).expanduser()
    fitting = [kind for kind, ending in ENDINGS.items() if path.name.endswith(ending)]
    kind = max(fitting, key=lambda one: len(ENDINGS[one]), default='')
    if kind == 'keras' and 'keras3' in self.files:
      kind = 'keras3'
    if kind not in self.files:
      raise UserError(
        f'{path} cannot be exported: the run has made {", ".join(self.files)}; take a name that ends '
        f'in {" or ".join(ENDINGS[one] for one in self.files)}, or set export_int8 or export_formats.'
      )
    source = self.files[kind]
    with explain_os_errors(path.parent), atomic_path(path) as partial:
      (shutil.copytree if source.is_dir() else shutil.copyfile)(source, partial)
    return path
