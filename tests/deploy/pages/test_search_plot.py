from secateurs.utils.deploy.pages.search_plot import search_path


def path(**changes):
  one = {'try': 1, 'ratio': 0.4, 'drop': 0.002, 'drop at most': 0.006, 'accepted': True}
  tries = [
    one,
    {**one, 'try': 2, 'ratio': 0.3, 'drop': 0.02, 'drop at most': 0.03, 'accepted': False},
  ]
  found = {
    'cost': 'bytes',
    'file': 'int8',
    'original': 1e6,
    'start': 5e5,
    'chosen': 1,
    'tries': tries,
  }
  return {**found, 'limit': None, 'max_drop': 0.01, **changes}


def test_tries_and_the_limit_are_drawn():
  drawn = search_path(path())
  assert drawn.startswith('<svg')
  assert 'bytes of the int8 file' in drawn
  # The ring of the chosen network is one more marker than without a choice.
  assert drawn.count('<use') == search_path(path(chosen=0)).count('<use') + 1


def test_a_search_without_tries_is_drawn_too():
  assert search_path(path(tries=[], limit=2e5, max_drop=None)).startswith('<svg')
