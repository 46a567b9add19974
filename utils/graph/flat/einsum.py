"""einsum as transposes, reshapes and a matmul: tf_keras saves these, and not tf.einsum itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError


def plain_einsum(equation: str, operands: Sequence[Any]) -> Any:
  """Returns what tf.einsum gives, by operations that every tf_keras file can hold.

  Args:
    equation: with an arrow, without repeated letters in one term.
    operands: one or two tensors, Keras tensors or constants.

  Raises:
    UserError: for other equations.
  """
  spelled = _spelled(equation, [len(one.shape) for one in operands])
  if spelled is None:
    raise UserError(
      f'tf.einsum({equation!r}) cannot be written to a file: use an equation of one or two operands'
      " with '->' and no letter twice in one of them, or tf.matmul."
    )
  terms, out = spelled
  operands = list(operands)
  for number, term in enumerate(terms):
    others = out + ''.join(terms[:number] + terms[number + 1 :])
    lonely = [axis for axis, letter in enumerate(term) if letter not in others]
    if lonely:
      operands[number] = tf.reduce_sum(operands[number], lonely)
      terms[number] = ''.join(letter for letter in term if letter in others)
  if len(terms) == 1:
    return _transposed(operands[0], terms[0], out)
  if set(terms[0]) < set(terms[1]):
    terms, operands = terms[::-1], operands[::-1]
  (first, second), (a, b) = terms, operands
  if set(second) <= set(first) and set(first) == set(out):
    order = ''.join(letter for letter in first if letter in second)
    b = _transposed(b, second, order)
    sizes = [_size(b, order, letter) if letter in order else 1 for letter in first]
    return _transposed(a * _reshaped(b, sizes), first, out)
  return _product(a, b, first, second, out)


def _product(a: Any, b: Any, first: str, second: str, out: str) -> Any:
  summed = ''.join(one for one in first if one in second and one not in out)
  batch = ''.join(one for one in first if one in second and one in out)
  left = ''.join(one for one in first if one not in second)
  right = ''.join(one for one in second if one not in first)
  sizes = {letter: _size(a, first, letter) for letter in first}
  sizes.update({letter: _size(b, second, letter) for letter in right})

  def joined(letters: str) -> int:
    found = [sizes[letter] for letter in letters]
    return -1 if -1 in found else math.prod(found)

  a, b = (
    _transposed(a, first, batch + left + summed),
    _transposed(b, second, batch + summed + right),
  )
  fronts = [sizes[letter] for letter in batch]
  if batch or not left:
    a = _reshaped(a, [*fronts, joined(left), joined(summed)])
  else:  # The axes of `a` stay apart: matmul takes them for a batch.
    a = _reshaped(a, [*(sizes[letter] for letter in left), joined(summed)])
  b = _reshaped(b, [*fronts, joined(summed), joined(right)])
  found = tf.matmul(a, b)
  shape = [*fronts, *(sizes[letter] for letter in left), *(sizes[letter] for letter in right)]
  return _transposed(_reshaped(found, shape), batch + left + right, out)


def _spelled(equation: str, ranks: list[int]) -> tuple[list[str], str] | None:
  if '->' not in equation:
    return None
  inputs, out = equation.replace(' ', '').split('->')
  terms = inputs.split(',')
  if len(terms) != len(ranks) or len(terms) > 2:
    return None
  dots = [rank - len(term.replace('...', '')) for rank, term in zip(ranks, terms)]
  names = ''.join(chr(0x391 + number) for number in range(max(dots)))
  terms = [
    term.replace('...', names[len(names) - count :] if count else '')
    for term, count in zip(terms, dots)
  ]
  out = out.replace('...', names)
  if any(len(set(term)) != len(term) for term in [*terms, out]):
    return None
  return terms, out


def _size(tensor: Any, term: str, letter: str) -> int:
  size = tensor.shape[term.index(letter)]
  return -1 if size is None else int(size)


def _transposed(tensor: Any, term: str, order: str) -> Any:
  if term == order:
    return tensor
  perm = [term.index(letter) for letter in order]
  if isinstance(tensor, np.ndarray):
    return tensor.transpose(perm)
  return tf.transpose(tensor, perm)


def _reshaped(tensor: Any, shape: list[int]) -> Any:
  known = [-1 if size is None else int(size) for size in tensor.shape]
  if known == shape:
    return tensor
  return tensor.reshape(shape) if isinstance(tensor, np.ndarray) else tf.reshape(tensor, shape)
