import pytest
import tensorflow as tf

from secateurs.utils.errors import first_line


@pytest.mark.parametrize(
  ('error', 'text'),
  [
    (ValueError('One.\nTwo.'), 'One'),
    (ValueError(' '), 'ValueError'),
    (ValueError('x' * 300), 'x' * 200),
  ],
)
def test_the_first_line_of_an_error(error, text):
  assert first_line(error) == text


def test_what_tensorflow_puts_around_a_reason_is_left_out(tmp_path):
  with pytest.raises(tf.errors.OpError) as raised:
    tf.io.read_file(str(tmp_path / 'none'))
  assert '{{' in str(raised.value)
  assert first_line(raised.value) == f'{tmp_path}/none; No such file or directory'
