import contextlib

import pytest

from secateurs.utils import processor
from secateurs.utils.errors import UserError


@pytest.mark.parametrize(
  ('features', 'max_isa', 'native'),
  [
    ({'avx2', 'fma'}, None, False),
    ({'avx2', 'avx512f'}, None, False),
    ({'avx512f', 'avx512_bf16'}, None, False),
    ({'avx512f', 'amx_bf16'}, 'ALL', True),
    ({'avx512f', 'amx_bf16'}, 'avx512_core_amx', True),
    ({'avx512f', 'amx_bf16'}, 'AVX2', False),
    ({'avx512f', 'avx512_bf16', 'amx_bf16'}, 'AVX512_CORE_BF16', False),
    ({'asimd', 'bf16'}, None, True),
  ],
)
def test_bfloat16_needs_instructions_that_may_be_used(features, max_isa, native):
  assert processor.cpu_computes_bfloat16(frozenset(features), max_isa) is native


@pytest.mark.parametrize(
  ('features', 'max_isa', 'refused'),
  [
    ({'avx2', 'avx512f'}, None, False),
    ({'avx2', 'avx512f'}, 'AVX2', True),
    ({'avx2', 'avx512f'}, 'avx512_core', False),
    ({'avx2'}, 'AVX2', False),
  ],
)
def test_forced_bfloat16_that_onednn_has_no_kernels_for(features, max_isa, refused, monkeypatch):
  monkeypatch.setattr(processor, '_features', lambda: frozenset(features))
  monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
  if max_isa:
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', max_isa)
  outcome = pytest.raises(UserError, match='unset it') if refused else contextlib.nullcontext()
  with outcome:
    processor.check_bfloat16()


def test_a_processor_is_described_with_what_decides_its_speed(monkeypatch):
  monkeypatch.setattr(processor, '_features', lambda: frozenset({'avx2', 'avx512f'}))
  text = processor.describe()
  assert text.endswith('AVX-512, AVX2')
  assert ' cores, ' in text
