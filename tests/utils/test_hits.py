"""Bits of which samples came out right, and what two networks differ in."""

import numpy as np
import pytest

from secateurs.utils.hits import disagreements, packed, unpacked


@pytest.mark.parametrize('nb', [0, 1, 8, 13])
def test_bits_come_back_as_they_were(nb):
  right = np.random.default_rng(nb).random(nb) < 0.7
  assert (unpacked(packed(right)) == right).all()


def test_damaged_bits_are_refused():
  hits = packed(np.ones(9, bool))
  with pytest.raises(ValueError, match='17 samples have 16 bits'):
    unpacked({**hits, 'samples': 17})
  with pytest.raises(ValueError, match='base64'):
    unpacked({**hits, 'bits': '!'})


def test_disagreements_count_what_one_alone_has_right():
  first = packed(np.array([1, 1, 1, 0, 0], bool))
  second = packed(np.array([1, 0, 0, 1, 0], bool))
  assert disagreements(first, second) == (2, 1)
  assert disagreements(first, packed(np.ones(4, bool))) is None
  assert disagreements(None, second) is None
