"""Spelling and the project's word list over all text; short sentences in what people read."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ('docs', 'learners', 'nets', 'scripts', 'utils')
PAGES = [ROOT / name for name in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md')]
# What readers who are not native speakers stumble over -> what to write.
WORDS = {
  r'anew': 'again, re-estimated',
  r'(?:by|in) turns': 'interleaved, alternately',
  r'mend(?:s|ed)?': 'fix',
  r'spoilt': 'overwritten',
  r'heeded': 'obeyed',
  r'(?:is|are) told': 'is given, is printed',
  r'of its own': 'separate, its own',
  r'goes? on behind': 'continues from',
  r'behind': 'after',
  r'(?:is|are) called so': 'has that name',
  r'stands? in it': 'contains',
  r'harms? alike': 'until the loss rises equally',
  r'(?:the )?nearest name is': 'did you mean ...?',
  r'tells?(?! (?:\w+ ){0,3}(?:apart|from)\b)': 'reports, prints, shows',
  r'(?:be|being|been) told': 'be measured, be known, within the noise',
  r'go(?:es)? on(?! masks)': 'resumes, continues',
  r'(?:take|takes|taken|took) away': 'remove',
  r'com(?:e|es|ing) back': 'regrow, is returned',
  r'(?:a|the|prunable) shares? of': 'fraction, ratio',
  r'so (?:many|much) as harms': 'until the loss rises equally',
  r'but for': 'except for',
  r'turned round': 'the inverse of, negated',
  r'other way round': 'in reverse',
  r'for ever': 'without end',
  r'for good': 'permanently',
  r'by heart': 'exactly',
  r'next to nothing': 'almost nothing',
  r'(?<!by )hands? over': 'pass, give',
  r'what c[ao]me of': 'the outcome of',
  r'hangs? on': 'depends on',
  r'g(?:o|oes|one) over the': 'read, run over',
}
LONGEST = 40
"""Words of a sentence, or of a part of one up to a colon or semicolon; code does not count."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST_HELP = 50
"""The same of a help text, which may list its choices."""


def texts():
  for room in ROOMS:
    for path in (ROOT / room).rglob('*'):
      if path.suffix in ('.md', '.py', '.sh', '.j2', '.flags') and 'package' not in path.parts:
        yield path
  yield from PAGES


def test_spelling():
  if shutil.which('codespell', path=str(Path(sys.executable).parent)) is None:
    pytest.skip('codespell is not installed')
  done = subprocess.run(
    [sys.executable, '-m', 'codespell_lib', *map(str, texts())],
    capture_output=True, text=True, check=False, cwd=ROOT,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout


def lines_with(words, paths):
  """Lines that have one of the words, each with what to write."""
  patterns = [(re.compile(rf'\b(?:{word})\b', re.IGNORECASE), use) for word, use in words.items()]
  return [
    f'{path.relative_to(ROOT)}:{number}: {match[0]} -> {use}'
    for path in paths
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1)
    for pattern, use in patterns
    if (match := pattern.search(line))
  ]


def test_words_that_readers_stumble_over():
  found = lines_with(WORDS, texts())
  assert not found, '\n'.join(found)


def pages():
  return [*PAGES, *sorted((ROOT / 'docs').glob('*.md'))]


def paragraphs(text):
  """A page's prose: paragraphs and points of lists in one line each, without tables; code is a tick."""
  text = re.sub(r'```.*?```|<!--.*?-->', '\n\n', text, flags=re.DOTALL)
  for block in re.split(r'\n\s*\n|\n(?=\s*(?:[-*] |\d+\. |[|#]))', text):
    if not block.lstrip().startswith(('|', '#')):
      yield ' '.join(re.sub(r'`[^`]*`', '`', block).split())


def too_long(text, most):
  """Sentences with more words."""
  return [
    sentence
    for sentence in re.split(r'[.!?:;](?=\s)', text)
    if len(re.findall(r"[A-Za-z][\w'-]*", sentence)) > most
  ]


def test_sentences_are_short():
  found = [
    f'{path.relative_to(ROOT)}: {sentence.strip()}'
    for path in pages()
    for paragraph in paragraphs(path.read_text(encoding='utf-8'))
    for sentence in too_long(paragraph, LONGEST)
  ]
  assert not found, '\n'.join(found)


def docstrings(source):
  """Paragraphs of the docstrings of a module, each argument by itself; without tables and equations."""
  for node in ast.walk(ast.parse(source)):
    text = isinstance(node, DOCUMENTED) and ast.get_docstring(node)
    for block in re.split(r'\n\s*\n|\n(?= +[\w*`.]+: )', text) if text else ():
      if not block.startswith(' ') or re.match(r' +[\w*`.]+: ', block):
        yield ' '.join(re.sub(r'`[^`]*`', '`', block).split())


def test_sentences_of_docstrings_are_short():
  found = [
    f'{path.relative_to(ROOT)}: {sentence.strip()}'
    for path in texts()
    if path.suffix == '.py'
    for paragraph in docstrings(path.read_text(encoding='utf-8'))
    for sentence in too_long(paragraph, LONGEST)
  ]
  assert not found, '\n'.join(found)


def test_no_word_is_there_twice():
  found = [
    f'{path.relative_to(ROOT)}: {match[0]}'
    for path in pages()
    for paragraph in paragraphs(path.read_text(encoding='utf-8'))
    for match in re.finditer(r'\b([a-z]{2,}) \1\b', paragraph, re.IGNORECASE)
  ]
  assert not found, '\n'.join(found)


def test_help_texts_are_short_sentences():
  page = (ROOT / 'docs/flags.md').read_text(encoding='utf-8')
  rows = re.findall(r'^\| `--(\w+)` \|.*\| ([^|]+) \|$', page, re.MULTILINE)
  assert len(rows) > 300
  for flag, text in rows:
    assert text.endswith('.'), flag
    assert not too_long(re.sub(r'`[^`]*`', ' ', text), LONGEST_HELP), flag


def test_what_the_checks_find():
  """Each of them, in a text that a person can check by hand."""
  prose, rest = 'One `a b` two three. Four\nfive: six.', '| table |\n\n```\ncode\n```\n- point'
  assert list(paragraphs(f'{prose}\n\n{rest}')) == ['One ` two three. Four five: six.', '- point']
  assert too_long('One two three. Four five: six.', 2) == ['One two three']
  assert not too_long('One two three. Four five: six.', 3)
  code = '"""One.\n\nArgs:\n  two: three `four`.\n\n  a  row\n"""\n\n\ndef five():\n  """Six."""\n'
  assert list(docstrings(code)) == ['One.', 'Args:', 'two: three `.', 'Six.']
  for right in ('tell them apart', 'told', 'channels go on masks'):
    assert not any(re.search(rf'\b(?:{word})\b', right) for word in WORDS)
  for wrong in ('tells what it does', 'the search goes on', 'a share of the weights'):
    assert any(re.search(rf'\b(?:{word})\b', wrong) for word in WORDS)
