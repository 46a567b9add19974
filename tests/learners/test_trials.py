import pytest

from secateurs.learners.trials import Candidate, best_candidates, read_trials, search

NAMES = ['a', 'b', 'c']


def propose(factors):
  counts = {name: round(10 * factors.get(name, 1.0)) for name in NAMES}
  return Candidate(counts, sum(counts.values()))


def run(path, stop=None):
  calls = []

  def reward(candidate):
    calls.append(candidate)
    if stop and len(calls) > stop:
      raise KeyboardInterrupt
    return candidate.counts['c'] / 100 - candidate.counts['a'] / 200

  trials = search(
    NAMES, propose, reward, path, nb_trials=14, nb_random=5, seed=3, say=lambda text: None
  )
  return trials, len(calls)


def test_a_search_goes_on_where_it_was_stopped(tmp_path):
  whole, _ = run(tmp_path / 'whole')
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path / 'stopped', stop=9)
  with (tmp_path / 'stopped').open('a') as file:
    file.write('{"number": 9, "fac')  # Killed while writing.
  resumed, calls = run(tmp_path / 'stopped')
  assert calls == 5
  assert resumed == whole == read_trials(tmp_path / 'whole')
  assert whole[0].factors == dict.fromkeys(NAMES, 1.0)
  assert not whole[1].factors
  assert [t.number for t in whole] == list(range(14))


def test_best_candidates_differ(tmp_path):
  trials, _ = run(tmp_path / 'trials')
  best = best_candidates(trials, 3)
  assert best[0].reward == max(t.reward for t in trials)
  assert len({str(t.counts) for t in best}) == 3
  assert best[0].reward >= best[1].reward >= best[2].reward
