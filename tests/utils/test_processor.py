import pytest

from secateurs.utils import processor


@pytest.mark.parametrize(
  ('features', 'max_isa', 'native'),
  [
    ({'avx2', 'fma'}, None, False),
    ({'avx2', 'avx512f'}, None, False),
    ({'avx512f', 'avx512_bf16'}, None, True),
    ({'avx512f', 'amx_bf16'}, 'ALL', True),
    ({'avx512f', 'amx_bf16'}, 'avx512_core_amx', True),
    ({'avx512f', 'amx_bf16'}, 'AVX2', False),
    ({'avx512f', 'avx512_bf16'}, 'AVX512_CORE', False),
    ({'asimd', 'bf16'}, None, True),
  ],
)
def test_bfloat16_needs_instructions_that_may_be_used(features, max_isa, native):
  assert processor.cpu_computes_bfloat16(frozenset(features), max_isa) is native


def test_a_processor_is_described_with_what_decides_its_speed(monkeypatch):
  monkeypatch.setattr(processor, '_features', lambda: frozenset({'avx2', 'avx512f'}))
  text = processor.describe()
  assert text.endswith('AVX-512, AVX2')
  assert ' cores, ' in text
