"""The writer of `<name>_quant.tflite` for exports."""

from __future__ import annotations

from pathlib import Path

from secateurs.utils.deploy.files.export_files import Job
from secateurs.utils.deploy.files.parity import Parity, compare_outputs
from secateurs.utils.deploy.lowbits.writer import FLOAT_BITS, quantized_bytes
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel


def write_quantized(job: Job, partial: Path, name: str, *, activation_bits: int) -> Parity:
  """Writes the file with weights of few bits, and compares it; rounding is reported, not refused.

  Args:
    job: the model, whose weights lie on grids.
    partial: where to write.
    name: what messages call the file.
    activation_bits: 8, 16 or 32.

  Raises:
    UserError: the library is missing or refuses the network.
  """
  del name
  # In a loop the library finds no ranges of activations.
  content = job.float_content if activation_bits == FLOAT_BITS else job.loopless_content
  partial.write_bytes(quantized_bytes(content, activation_bits, job.calibration)[0])
  file = TFLiteModel(partial)
  return compare_outputs(job.reference, file.predict(job.images), file.output_steps, job.agreement)
