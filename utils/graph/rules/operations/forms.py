"""What a matmul or an einsum sums over: a letter for each axis of each operand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Sides
from secateurs.utils.graph.rules.operations.arguments import argument, constant_array, is_ref

_LETTERS = 'abcdefghijklmnopqrstuvwxyz'
Form = tuple[list[Any], list[str], str]


def form_of(call: Call, shapes: list[tuple], rank_out: int) -> Form | None:
  """(operands, a letter for each of their axes, letters of the output), or None."""
  symbol = (call.layer.symbol or '').split('.')[-1]
  if symbol == 'einsum':
    return _einsum_form(call, shapes)
  operands = [argument(call, 'a'), argument(call, 'b')]
  if any(argument(call, name) for name in ('adjoint_a', 'adjoint_b', 'a_is_sparse', 'b_is_sparse')):
    return None
  ranks = _ranks(operands, shapes)
  if ranks is None or min(ranks) < 2:
    return None
  batch = _LETTERS[: max(ranks) - 2]
  if max(ranks) != rank_out:
    return None
  first, second = 'xy', 'yz'
  first = first[::-1] if argument(call, 'transpose_a') else first
  second = second[::-1] if argument(call, 'transpose_b') else second
  terms = [batch[len(batch) - (rank - 2) :] + tail for rank, tail in zip(ranks, (first, second))]
  return operands, terms, f'{batch}xz'


def _einsum_form(call: Call, shapes: list[tuple]) -> Form | None:
  equation, *operands = call.args
  if not isinstance(equation, str) or '->' not in equation:
    return None
  inputs, out = equation.replace(' ', '').split('->')
  terms = inputs.split(',')
  ranks = _ranks(operands, shapes)
  if ranks is None or len(terms) != len(operands):
    return None
  longest = max(rank - len(term.replace('...', '')) for rank, term in zip(ranks, terms))
  full = _upper(longest)
  spelled = []
  for rank, term in zip(ranks, terms):
    dots = rank - len(term.replace('...', ''))
    spelled.append(term.replace('...', full[longest - dots :] if dots else ''))
  return operands, spelled, out.replace('...', full)


def _upper(count: int) -> str:
  """Names for the axes of an ellipsis, which no equation uses."""
  return ''.join(chr(0x391 + number) for number in range(count))


def _ranks(operands: list[Any], shapes: list[tuple]) -> list[int] | None:
  ranks, number = [], 0
  for operand in operands:
    if is_ref(operand):
      ranks.append(len(shapes[number]))
      number += 1
    else:
      array = constant_array(operand)
      if array is None:
        return None
      ranks.append(array.ndim)
  return ranks if number == len(shapes) else None


def numbers_of(operands: list[Any]) -> dict[int, int]:
  """Operand -> number of the input tensor, for operands that are tensors."""
  places = [place for place, operand in enumerate(operands) if is_ref(operand)]
  return {place: number for number, place in enumerate(places)}


def sides(form: Form, shapes: Sequence[tuple]) -> Sides | None:
  """The sides of the product for one row of the batch, or None if nothing is summed over.

  An axis that one operand has alone, and the output has not, is summed over before. Of more than two
  operands every term of the sum takes as many multiplications less one.

  Args:
    form: what is summed over.
    shapes: of the tensors, batch first.
  """
  operands, terms, out = form
  tensors = numbers_of(operands)
  sizes: dict[str, int | None] = {}
  for place, (operand, term) in enumerate(zip(operands, terms)):
    constant = place not in tensors
    shape = constant_array(operand).shape if constant else shapes[tensors[place]]
    for letter, size in zip(term, shape):
      if sizes.get(letter, 1) == 1:
        sizes[letter] = size
  times = {letter: sum(letter in term for term in terms) for letter in sizes}
  summed = [letter for letter in sizes if letter not in out and times[letter] > 1]
  batch = _batch(terms, out, tensors, shapes, sizes)
  if len(terms) < 2 or not summed:
    return None
  rest = [letter for letter in sizes if (letter in out or times[letter] > 1) and letter != batch]
  return (len(terms) - 1, *(sizes[letter] for letter in rest))


def _batch(
  terms: Sequence[str],
  out: str,
  tensors: dict[int, int],
  shapes: Sequence[tuple],
  sizes: dict[str, int | None],
) -> str:
  """The letter of the batch: of an open first axis, else of any open one, else the output's first."""
  fronts = [terms[place][0] for place, number in tensors.items() if shapes[number][0] is None]
  unknown = [letter for letter, size in sizes.items() if size is None]
  return (fronts or unknown or [out[:1]])[0]
