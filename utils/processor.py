"""What the processor of this machine is, and what it computes natively."""

from __future__ import annotations

import os

from secateurs.utils.errors import UserError

# Of oneDNN's ONEDNN_MAX_CPU_ISA: what leaves its bfloat16 kernels in use.
_ISA_WITH_BF16 = ('ALL', 'DEFAULT')
# AVX-512 with bfloat16 (avx512_bf16) has products alone, and trains slower than in float32.
_CPU_BF16 = ('amx_bf16', 'bf16', 'svebf16')
_GPU_BF16 = (8, 0)  # Compute capability of Ampere.


def computes_bfloat16() -> bool:
  """Whether training in bfloat16 is worth while here: a GPU that computes in it, or units such as AMX.

  Elsewhere oneDNN and Eigen convert back and forth: ResNet-20 trains about six times slower on a
  processor with AVX2 only, and networks from MobileNet to ResNet-50 1.4 to 1.8 times slower on a Xeon
  with avx512_bf16 but without AMX.
  """
  import tensorflow as tf

  gpus = tf.config.list_physical_devices('GPU')
  if gpus:
    found = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
    return all(details.get('compute_capability', (0, 0)) >= _GPU_BF16 for details in found)
  return cpu_computes_bfloat16(_features(), os.environ.get('ONEDNN_MAX_CPU_ISA'))


def cpu_computes_bfloat16(features: frozenset[str], max_isa: str | None) -> bool:
  """Whether a processor computes in bfloat16 faster than in float32.

  Args:
    features: instruction sets by the names that Linux gives them, such as `amx_bf16`.
    max_isa: oneDNN's limit to instruction sets (ONEDNN_MAX_CPU_ISA), if there is one.
  """
  if not features.intersection(_CPU_BF16):
    return False
  isa = (max_isa or 'ALL').upper()
  return isa in _ISA_WITH_BF16 or 'AMX' in isa


def check_bfloat16() -> None:
  """Checks that a training in bfloat16 that is forced can run on this processor at all.

  TensorFlow chooses oneDNN's kernels by the processor, and oneDNN by its own limit.

  Raises:
    UserError: oneDNN has no bfloat16 kernels where TensorFlow takes them.
  """
  max_isa = os.environ.get('ONEDNN_MAX_CPU_ISA')
  if max_isa and not bfloat16_runs(_features(), max_isa):
    raise UserError(
      f'ONEDNN_MAX_CPU_ISA={max_isa} leaves oneDNN no bfloat16 kernels, but TensorFlow takes them on a '
      'processor with AVX-512: unset it, or leave out --enbl_bf16 force.'
    )


def bfloat16_runs(features: frozenset[str], max_isa: str) -> bool:
  """Whether oneDNN has bfloat16 kernels, however slow, where TensorFlow takes them."""
  isa = max_isa.upper()
  return (
    'avx512f' not in features or isa in _ISA_WITH_BF16 or 'AVX512_CORE' in isa or 'AVX10' in isa
  )


def normalises_slowly() -> bool:
  """Whether oneDNN's batch normalisation is slow here (`models.norm_kernels` says why)."""
  import tensorflow as tf

  if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0' or tf.config.list_physical_devices('GPU'):
    return False
  return lacks_avx512(_features(), os.environ.get('ONEDNN_MAX_CPU_ISA'))


def lacks_avx512(features: frozenset[str], max_isa: str | None) -> bool:
  """Whether oneDNN works with AVX2 and nothing wider: by the processor, or by its own limit."""
  isa = (max_isa or 'ALL').upper()
  wider = isa in _ISA_WITH_BF16 or 'AVX512' in isa or 'AVX10' in isa
  return 'avx2' in features and not ('avx512f' in features and wider)


def describe() -> str:
  """The processor for people, with what decides how fast networks train on it."""
  from archspec import cpu

  features = _features()
  known = {'AVX-512': 'avx512f', 'AVX2': 'avx2', 'AMX': 'amx_tile', 'bfloat16': None}
  native = cpu_computes_bfloat16(features, os.environ.get('ONEDNN_MAX_CPU_ISA'))
  parts = [n for n, flag in known.items() if (native if flag is None else flag in features)]
  name = cpu.brand_string() or cpu.host().name
  return f'{name}, {os.cpu_count()} cores{"".join(f", {part}" for part in parts)}'


def _features() -> frozenset[str]:
  from archspec.cpu import detect

  return frozenset(detect.detected_info().features)
