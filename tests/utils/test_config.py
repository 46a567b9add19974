import dataclasses

import pytest

from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Knife(Config):
  prefix = 'kn_'
  settled_by = {'kind': 'blade', 'long': '--{prefix}length above 30'}  # noqa: RUF012

  blade: str | None = option(None, 'Its blade.', choices=('bread', 'fish'))
  serrated: bool = option(False, 'Whether it has teeth.', used_with={'kind': 'bread'})
  pitch: float = option(1.0, 'Between its teeth.', used_with={'serrated': True})
  length: int = option(20, 'In cm.', used_with={'kind': ('bread', 'fish')})
  tip: bool = option(False, 'Whether it has one.', used_with={'long': True})

  @property
  def kind(self):
    return self.blade or 'plain'

  @property
  def long(self):
    return self.length > 30


def test_options_count_where_they_have_an_effect():
  assert Knife(blade='bread', serrated=True, pitch=2.0).pitch == 2.0
  assert Knife(blade='fish', length=15).length == 15
  assert Knife(length=20) == Knife()  # A default that is written out changes nothing.


@pytest.mark.parametrize(
  ('values', 'text'),
  [
    (
      {'serrated': True},
      '--kn_serrated has an effect only with --kn_blade bread, but --kn_blade plain is set: add '
      '--kn_blade bread, or leave --kn_serrated out.',
    ),
    (
      {'blade': 'bread', 'pitch': 2.0},
      '--kn_pitch 2.0 has an effect only with --kn_serrated, but --nokn_serrated is set: add '
      '--kn_serrated, or leave --kn_pitch out.',
    ),
    ({'length': 15}, '--kn_length 15 has an effect only with --kn_blade bread, but'),
    (
      {'tip': True},
      '--kn_tip has an effect only with --kn_length above 30: give that, or leave --kn_tip out.',
    ),
  ],
)
def test_an_option_without_an_effect_is_refused(values, text):
  with pytest.raises(UserError) as raised:
    Knife(**values)
  assert str(raised.value).startswith(text)


def test_settings_of_a_method_give_way():
  settings = {'blade': 'bread', 'serrated': True, 'pitch': 3.0}
  assert Knife.with_settings(settings, {}) == settings
  assert Knife.with_settings(settings, {'pitch': 4.0}) == {**settings, 'pitch': 4.0}
  assert Knife.with_settings(settings, {'blade': 'fish'}) == {'blade': 'fish', 'pitch': 3.0}


@dataclasses.dataclass(frozen=True)
class Bounded(Config):
  """With numbers that have one bound or two."""

  prefix = 'b_'
  rate: float = option(0.5, 'A ratio.', low=0, high=1)
  length: float = option(1.0, 'A length.', low=0)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
@pytest.mark.parametrize('name', ['rate', 'length'])
def test_a_number_is_finite(name, value):
  with pytest.raises(
    UserError, match=f'--b_{name} takes a finite number, but -?(nan|inf) was given'
  ):
    Bounded(**{name: value})
