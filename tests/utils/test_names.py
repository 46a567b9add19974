"""Names that no other layer or tensor has."""

from secateurs.utils.names import unique_name


def test_a_free_name_stays():
  assert unique_name('conv', {'dense'}) == 'conv'
  assert unique_name('conv', set(), {'conv'}) == 'conv'


def test_numbers_make_it_unique():
  assert unique_name('conv', {'conv'}) == 'conv_1'
  assert unique_name('conv', {'conv', 'conv_1'}) == 'conv_2'


def test_no_reserved_name_is_made_up():
  assert unique_name('conv', {'conv'}, {'conv', 'conv_1'}) == 'conv_2'
