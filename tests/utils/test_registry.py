import pytest

from secateurs.utils.errors import UserError
from secateurs.utils.registry import Registry, unknown


@pytest.fixture
def fruit():
  registry = Registry('fruit')
  for name in ('apple', 'pear', 'cherry'):
    registry.add(name, name.upper())
  return registry


def test_it_is_a_dictionary_in_the_order_of_adding(fruit):
  assert list(fruit.items()) == [('apple', 'APPLE'), ('pear', 'PEAR'), ('cherry', 'CHERRY')]
  assert fruit.find('pear') == fruit['pear'] == 'PEAR'
  assert len(fruit) == 3
  assert 'plum' not in fruit
  with pytest.raises(KeyError):
    fruit['plum']


def test_adding_gives_the_entry_back(fruit):
  entry = object()
  assert fruit.add('plum', entry) is entry


def test_a_name_is_taken_once_only(fruit):
  with pytest.raises(ValueError, match=r"Two entries have the fruit name 'pear'"):
    fruit.add('pear', 'another')
  assert fruit['pear'] == 'PEAR'
  fruit.add('pear', fruit['pear'])  # The same thing again, as when a module is imported twice.
  assert list(fruit) == ['apple', 'pear', 'cherry']


@pytest.mark.parametrize('entry', [None, 0, False])
def test_names_of_false_entries_are_taken_too(fruit, entry):
  fruit.add('none', entry)
  with pytest.raises(ValueError, match='none'):
    fruit.add('none', 'another')


@pytest.mark.parametrize(
  ('name', 'nearest'), [('aple', 'apple'), ('cherries', 'cherry'), ('pears', 'pear')]
)
def test_an_unknown_name_is_told_with_the_nearest_known_one(fruit, name, nearest):
  with pytest.raises(UserError) as error:
    fruit.find(name)
  text = f'{name!r} is no fruit; expected one of apple, pear, cherry. Did you mean {nearest}?'
  assert str(error.value) == text


def test_nothing_is_suggested_where_nothing_is_near(fruit):
  with pytest.raises(UserError) as error:
    fruit.find('xyz')
  assert str(error.value) == "'xyz' is no fruit; expected one of apple, pear, cherry."


def test_the_sentence_serves_any_names():
  sentence = unknown('colour', 'gren', {'red': 1, 'green': 2})
  assert sentence == "'gren' is no colour; expected one of red, green. Did you mean green?"
