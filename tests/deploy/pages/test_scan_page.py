"""The page of --exec_mode sensitivity."""

from secateurs.utils.deploy.pages.scan_page import write_scan

EVIL = '"><img src=x onerror=$x$><script>'


def test_no_name_becomes_markup(tmp_path):
  curve = [(0.0, 0.0), (0.5, 0.1), (0.9, 0.4)]
  names = ('net', 'dataset', 'weights', 'criterion', 'split')
  result = {
    **{name: f'{name} {EVIL}' for name in names},
    'samples': 10,
    'left_whole': [f'left {EVIL}'],
    'curves': {f'layer {EVIL}': curve},
    'table': {f'layer {EVIL}': {f'50% {EVIL}': 0.1}},
    'selections': {f'way {EVIL}': {f'layer {EVIL}': {'error': curve, 'drop': curve}}},
  }
  _, path = write_scan(result, tmp_path)
  page = path.read_text()
  assert '<img src=x' not in page
  assert '<script' not in page
  assert page.count('<svg') == 3
  for word in (*names, 'left', 'layer', '50%', 'way'):
    assert f'{word} &#34;&gt;&lt;img src=x' in page or f'{word} "&gt;&lt;img src=x' in page, word
