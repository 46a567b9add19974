"""The steps of a run, and what a finished run gives."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    model: the compressed model, float32, of Keras 3 if the network came so.
    report: content of report.json.
    files: the exported files by format: keras, pb, tflite, keras3 if the network came as a model of
      Keras 3, and, if asked for, tflite_int8.
    plan: plan.json, what was cut.
  """

  model: Any
  report: dict[str, Any]
  files: dict[str, Path]
  plan: Path

  def export(self, path: str | Path) -> Path:
    """Copies the exported file of the path's ending: .tflite, .keras or .pb.

    `<name>_int8.tflite` and `<name>_sparse.tflite` mean those files; .keras is the file of Keras 3
    where the network came so (the one of tf_keras is `files['keras']`).

    Raises:
      UserError: there is no such file.
    """
    path = Path(path).expanduser()
    kind = path.suffix.removeprefix('.')
    for other in ('int8', 'sparse', 'quant'):
      if path.stem.endswith(f'_{other}'):
        kind = f'{kind}_{other}'
    if kind == 'keras' and 'keras3' in self.files:
      kind = 'keras3'
    if kind not in self.files:
      raise UserError(
        f'{path} cannot be exported: the run has made {", ".join(self.files)}; take an ending of '
        'these, or set export_int8 for int8.'
      )
    with explain_os_errors(path.parent), atomic_path(path) as partial:
      shutil.copyfile(self.files[kind], partial)
    return path
