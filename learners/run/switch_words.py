"""Words that a switch of the command line takes, such as `--enbl_bf16 force`."""

from __future__ import annotations

# Words that a switch takes: what else they set.
_WORDS = {
  ('enbl_bf16', 'force'): ['--force_bf16'],
  ('export_int8', 'auto'): ['--int8_repair', 'auto'],
}


def with_words(argv: list[str]) -> list[str]:
  """Spells `--enbl_bf16 force` and `--export_int8 auto` as the two flags that each means."""
  found: list[str] = []
  for arg in argv:
    switch, _, word = arg.lstrip('-').partition('=')
    before = found[-1].lstrip('-') if found and found[-1].startswith('-') else ''
    if arg.startswith('-') and (switch, word) in _WORDS:
      found += [f'--{switch}', *_WORDS[switch, word]]
    elif (before, arg) in _WORDS:
      found += _WORDS[before, arg]
    else:
      found.append(arg)
  return found
