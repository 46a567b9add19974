"""How each file of an export is written and compared: one function for each format."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.faults.known import known_faults
from secateurs.utils.deploy.faults.loops import unrolled
from secateurs.utils.deploy.faults.repair import repair
from secateurs.utils.deploy.faults.rewritings import LayerCall, rewritten
from secateurs.utils.deploy.files.convert import convert, freeze, graph_def, trace
from secateurs.utils.deploy.files.exportable import (
  calibration_images,
  check_exportable,
  nb_parity_images,
  parity_inputs,
)
from secateurs.utils.deploy.files.float_operators import float_operators
from secateurs.utils.deploy.files.parity import (
  Agreement,
  Parity,
  ParityError,
  check_graph_def,
  check_keras,
  check_keras3,
  check_tflite,
  keras_outputs,
  top1_agreement,
)
from secateurs.utils.deploy.int8.repair import Repairer
from secateurs.utils.errors import first_line
from secateurs.utils.training.int8.simulation import deployed


@dataclass(frozen=True)
class Job:
  """What the files are made of and compared with; each graph is traced, each file converted once.

  Attributes:
    model: what is exported.
    quantized: its twin that simulates 8 bits, if the integer file is made from that.
    specs: of the inputs.
    calibration: inputs for the integer ranges.
    images: inputs for the comparison.
    reference: the model's outputs for them.
    agreement: fraction of decisions that two sets of outputs agree in.
    pb_names: of the GraphDef's inputs and outputs, once it is written.
    repair: makes a better integer file of the float and the plain integer one, if that is asked for.
    rewritings: calls that TensorFlow Lite files are made with in place of layers' own, which a runtime
      computes wrongly.
    notes: sentences about the files that the user must not miss.
  """

  model: keras.Model
  quantized: keras.Model | None
  specs: tuple[tf.TensorSpec, ...]
  calibration: Any
  images: Any
  reference: Any
  agreement: Agreement = top1_agreement
  repair: Repairer | None = None
  pb_names: dict[str, list[str]] = field(default_factory=dict)
  rewritings: dict[keras.layers.Layer, LayerCall] = field(default_factory=dict)
  notes: list[str] = field(default_factory=list)

  @cached_property
  def function(self) -> Any:
    """The function of batch 1 that gives the TensorFlow Lite files."""
    with rewritten(self.rewritings):
      return trace(self.model, self.specs, batch=1)

  @cached_property
  def loopless(self) -> Any:
    """The same function without loops, as far as recurrent layers can be unrolled."""
    calls = unrolled(self.model)
    if not calls:
      return self.function
    with rewritten({**self.rewritings, **calls}):
      return trace(self.model, self.specs, batch=1)

  @cached_property
  def float_content(self) -> bytes:
    """The content of the float TensorFlow Lite file, from which others may be made."""
    return convert(self.function, self.model.name)

  @cached_property
  def loopless_content(self) -> bytes:
    """The same file without loops."""
    same = self.loopless is self.function
    return self.float_content if same else convert(self.loopless, self.model.name)

  def rewrite(self, calls: dict[keras.layers.Layer, LayerCall]) -> None:
    """Has the TensorFlow Lite files made with other calls of layers from now on."""
    self.rewritings.update(calls)
    for made in ('function', 'loopless', 'float_content', 'loopless_content'):
      self.__dict__.pop(made, None)


def export_job(
  model: keras.Model,
  quantized: keras.Model | None,
  int8: bool,
  calibration: Any,
  parity_images: Any,
  agreement: Agreement = top1_agreement,
  repair: Repairer | None = None,
) -> Job:
  """Checks what `export_model` is given, and computes the outputs that files are compared with.

  Raises:
    UserError: the model or the images cannot be exported.
  """
  specs = check_exportable(model)
  if int8 and quantized is None:
    calibration = calibration_images(calibration, specs)
  images = parity_inputs(parity_images, calibration, specs, nb_parity_images(model))
  reference = keras_outputs(model, images)
  job = Job(model, quantized, specs, calibration, images, reference, agreement, repair)
  job.rewrite(known_faults(model))
  return job


def _write_keras(job: Job, partial: Path, name: str) -> Parity:
  _save_keras(job.model, partial)
  return check_keras(partial, job.reference, job.images, name=name, agreement=job.agreement)


def _save_keras(model: keras.Model, path: Path) -> None:
  from secateurs.utils.graph import save_model

  save_model(model, path)


def _write_pb(job: Job, partial: Path, name: str) -> Parity:
  data, input_names, output_names = graph_def(freeze(job.model, job.specs, batch=None))
  partial.write_bytes(data)
  del data
  job.pb_names.update(inputs=input_names, outputs=output_names)
  return check_graph_def(
    partial,
    job.reference,
    job.images,
    input_name=input_names,
    output_name=output_names,
    name=name,
    agreement=job.agreement,
  )


def _write_tflite(job: Job, partial: Path, name: str) -> Parity:
  """Where the runtime computes a layer wrongly, the file is made with an equal one, if there is one."""

  def written() -> Parity:
    partial.write_bytes(job.float_content)
    return check_tflite(partial, job.reference, job.images, name=name, agreement=job.agreement)

  try:
    return written()
  except ParityError as error:
    if len(job.model.inputs) != 1 or len(job.model.inputs[0].shape) != 4:
      raise  # Only networks of images are searched.
    found = repair(job.model, job.images)
    if found.fault is not None:
      raise ParityError(
        f'the installed TensorFlow Lite computes layer {found.fault} differently from Keras, and no '
        'equal form of it is known that it computes rightly (docs/runtime_faults.md)'
      ) from error
    if not found.calls:
      raise
    job.rewrite(found.calls)
    job.notes.extend(found.notes)
  return written()


def _write_sparse(job: Job, partial: Path, name: str) -> Parity:
  partial.write_bytes(convert(job.function, job.model.name, sparse=True))
  return check_tflite(partial, job.reference, job.images, name=name, agreement=job.agreement)


def _write_int8(job: Job, partial: Path, name: str) -> Parity:
  """From the twin that simulates 8 bits, compared with it, or else from the model's own ranges."""
  if job.quantized is None:
    content, reference = convert(job.loopless, job.model.name, job.calibration), job.reference
    if job.repair is not None:
      content = _repaired(job, job.repair, content)
  else:
    with deployed(job.quantized):
      twin = trace(job.quantized, job.specs, batch=1)
    content = convert(twin, job.model.name, simulated=True)
    reference = keras_outputs(job.quantized, job.images)
  partial.write_bytes(content)
  parity = check_tflite(partial, reference, job.images, name=name, agreement=job.agreement)
  if left := float_operators(content):
    job.notes.append(f'{name} is not full-integer: {left}')
  return parity


def _repaired(job: Job, repair: Repairer, plain: bytes) -> bytes:
  """The plain file where ai-edge-quantizer cannot make a better one."""
  try:
    content = repair(job.loopless_content, plain, job.calibration)
  except Exception as error:  # Whatever the library raises: there is a plain file.
    reason = first_line(error)
    job.notes.append(f'The int8 file was not repaired: {reason}')
    return plain
  return content


Writer = Callable[[Job, Path, str], Parity]
"""Writes a format to a partial path under which messages call it by a name, and compares it."""


def keras3_writer(three: Any) -> Writer:
  """Writes a model that was rebuilt in Keras 3, and compares what is loaded again."""

  def write(job: Job, partial: Path, name: str) -> Parity:
    three.save(partial)
    return check_keras3(partial, job.reference, job.images, name=name)

  return write


ENDINGS = {
  'keras': '.keras',
  'keras3': '_keras3.keras',
  'pb': '.pb',
  'tflite': '.tflite',
  'tflite_int8': '_int8.tflite',
  'tflite_sparse': '_sparse.tflite',
  'tflite_quant': '_quant.tflite',
  'tflite_nms': '_nms.tflite',
  'tflite_fp16': '_fp16.tflite',
  'tflite_dynamic': '_dynamic.tflite',
  'saved_model': '_saved_model',
  'onnx': '.onnx',
  'dc': '.dc',
}
WRITERS: dict[str, Writer] = {
  'keras': _write_keras,
  'pb': _write_pb,
  'tflite': _write_tflite,
  'tflite_int8': _write_int8,
  'tflite_sparse': _write_sparse,
}
